"""What must hold for any page of the mall, whoever made it: `look` opens one in a real browser and says what is wrong with it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, Response

from ballast.mall.web.texts import texts

PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
"""A folder to keep screenshots in, to be looked at."""
VIEWS = {"phone-zh": (390, 844, "zh-CN"), "desktop-en": (1280, 800, "en-GB")}
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"

# What stands in closed parts of a page is looked at too; the account's menu would cover what is beside it.
_OPEN = "document.querySelectorAll('details:not(.account-menu)').forEach((one) => { one.open = true; })"
_FORM = """() => {
    const wrong = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) {
        const far = [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1)
            .slice(0, 3).map((one) => one.outerHTML.slice(0, 90));
        wrong.push(`${root.scrollWidth - root.clientWidth} px too wide: ${far.join(' | ')}`);
    }
    const heads = [...document.querySelectorAll('h1')].filter((one) => one.checkVisibility());
    if (heads.length !== 1 || !heads[0].textContent.trim()) wrong.push(`${heads.length} h1: ${heads.map((one) => one.textContent)}`);
    if (!document.title.replace(/[\\s·-]/g, '')) wrong.push('no title');
    for (const one of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
        if (!one.labels?.length && !one.ariaLabel && !one.getAttribute('aria-labelledby')) wrong.push(`no label: ${one.outerHTML.slice(0, 120)}`);
    }
    for (const one of document.images) {
        if (!one.hasAttribute('alt')) wrong.push(`no alt: ${one.outerHTML.slice(0, 120)}`);
        if (one.complete && one.src && !one.naturalWidth && one.checkVisibility()) wrong.push(`broken: ${one.src}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
    const twice = ids.filter((one, at) => ids.indexOf(one) !== at);
    if (twice.length) wrong.push(`ids that stand twice: ${twice}`);
    return wrong;
}"""
# Something about an element, its label or what stands beside it must change when the keyboard comes to it.
_FOCUS = """() => {
    const worn = (one) => [one, one.nextElementSibling, one.parentElement].filter(Boolean).map((each) => {
        const style = getComputedStyle(each);
        return [style.outlineStyle, style.outlineWidth, style.boxShadow, style.borderColor, style.backgroundColor, style.clipPath].join();
    }).join('/');
    const settle = () => document.getAnimations().forEach((one) => one.finish());
    const unseen = [];
    const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')]
        .filter((one) => !one.disabled && one.checkVisibility({ visibilityProperty: true })).slice(0, 150);
    for (const one of all) {
        document.activeElement.blur();
        settle();
        const before = worn(one);
        one.focus({ preventScroll: true });
        settle();
        if (worn(one) === before) unseen.push(`focus is not seen: ${one.outerHTML.slice(0, 120)}`);
    }
    document.activeElement.blur();
    return unseen.slice(0, 5);
}"""
_AXE_RUN = """async (rules) => {
    const { violations } = await axe.run(document, { runOnly: rules, resultTypes: ['violations'] });
    return violations.flatMap((one) => one.nodes.slice(0, 4).map((node) =>
        `${one.id}: ${node.target.flat().join(' ')} ${node.html.slice(0, 140)} ${(node.any[0] || node.all[0] || node.none[0])?.message ?? ''}`));
}"""


@cache
def _axe() -> str:
    assert _AXE.exists(), f"{_AXE} is not there; `npm ci --ignore-scripts` (or `make assets` anew) brings it"
    return _AXE.read_text(encoding="utf-8")


@cache
def _key() -> re.Pattern[str]:
    """The name of a text, where the text should be. Names of events (``order.paid``) are shown as they are."""
    areas = sorted({name.split(".")[0] for name in texts()})
    return re.compile(rf"\b(?:{'|'.join(areas)})\.[a-z_]+(?:\.[a-z_]+)+\b")


@dataclass
class Watched:
    """A browser's window of its own, and what went wrong in it."""

    context: BrowserContext
    page: Page
    view: str
    heard: list[str] = field(default_factory=list)

    @property
    def lang(self) -> str:
        return "zh-CN" if self.view.endswith("zh") else "en"

    def drain(self) -> list[str]:
        """What was heard since the last time."""
        said, self.heard[:] = list(self.heard), []
        return said


def open_window(browser: Browser, view: str) -> Watched:
    """One of `VIEWS`; nothing moves in it, so that what is measured stands still."""
    width, height, locale = VIEWS[view]
    context = browser.new_context(
        viewport={"width": width, "height": height}, locale=locale, reduced_motion="reduce", accept_downloads=False
    )
    context.set_default_timeout(30_000)
    window = Watched(context, context.new_page(), view)

    def answered(response: Response) -> None:
        if response.status >= 400:
            window.heard.append(f"{response.status} {response.url}")

    context.on("response", answered)
    # What was still under way when the window went on to another page is broken off by the browser itself.
    context.on(
        "requestfailed",
        lambda one: None if one.failure == "net::ERR_ABORTED" else window.heard.append(f"{one.failure} {one.url}"),
    )
    context.on("console", lambda one: window.heard.append(one.text) if one.type in ("error", "warning") else None)
    context.on("weberror", lambda error: window.heard.append(str(error.error)))
    return window


def look(window: Watched, name: str, *, status: int = 200, axe: bool = True) -> list[str]:
    """What is wrong with the page that the window shows; `name` is that of its picture."""
    page = window.page
    wrong = [one for one in window.drain() if status == 200 or not re.search(rf"\b{status}\b", one)]
    said = page.locator("html").get_attribute("lang")
    if said != window.lang:
        wrong.append(f"lang is {said}")
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.{window.view}.png", full_page=True)
    page.evaluate(_OPEN)
    wrong += page.evaluate(_FORM)
    wrong += [f"a text's name: {one}" for one in _key().findall(page.locator("body").inner_text())]
    if axe:
        page.evaluate(_axe())
        wrong += page.evaluate(_AXE_RUN, _RULES)
    wrong += page.evaluate(_FOCUS)
    return [f"{name}: {one}" for one in wrong]
