"""How a webhook is signed, when it is sent again, and where it must never lead."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ballast.mall.web.texts import texts
from ballast.mall.webhooks import reach, schedule, signature
from ballast.mall.webhooks.endpoints import KINDS


def test_each_event_has_a_name_for_people() -> None:
    assert [kind for kind in KINDS if f"shop.event.{kind}" not in texts()] == []


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    made = signature.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_make_two_signatures() -> None:
    secrets = [signature.secret_of(bytes([n]) * signature.KEY_BYTES) for n in (1, 2)]
    both = signature.headers("x", b"{}", secrets, datetime.now(UTC))["webhook-signature"].split(" ")
    assert len(set(both)) == 2


def test_the_documents_receiver_believes_us_and_nobody_else() -> None:
    text = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    old, new = (signature.secret_of(bytes([n]) * signature.KEY_BYTES) for n in (1, 2))
    now = datetime.now(UTC)
    sent = signature.headers("x", b'{"a":1}', [new, old], now)
    assert names["verify"](old, sent, b'{"a":1}')
    assert names["verify"](new, sent, b'{"a":1}')
    assert not names["verify"](old, sent, b'{"a":2}')
    assert not names["verify"](signature.secret_of(b"other"), sent, b'{"a":1}')
    late = signature.headers("x", b"{}", [old], now - timedelta(minutes=6))
    assert not names["verify"](old, late, b"{}")
    listed = {
        kind for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for kind in re.findall(r"`([a-z_.]+)`", row)
    }
    assert listed == set(KINDS)


def test_attempts_go_on_for_a_day_or_a_little_more_and_spread() -> None:
    exact, least, most = timedelta(), timedelta(), timedelta()
    for attempts in range(1, schedule.MOST_ATTEMPTS):
        waits = [schedule.wait(attempts, chance) for chance in (0.5, 0.0, 1.0)]
        assert None not in waits
        assert waits[1] < waits[0] < waits[2]  # type: ignore[operator]
        exact, least, most = exact + waits[0], least + waits[1], most + waits[2]  # type: ignore[operator]
    assert timedelta(hours=20) < least < exact < most < timedelta(hours=36)
    assert schedule.wait(1, 0.5) == timedelta(seconds=10)
    assert schedule.wait(schedule.MOST_ATTEMPTS, 0.5) is None
    assert schedule.wait(10**6, 0.5) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:1::1",
        "::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "fec0::1",
        "192.88.99.1",
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not reach.is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_not(address: str) -> None:
    assert reach.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//example.com/x",
        "https://",
        "https://user:word@example.com/",
        "https://example.com\\@127.0.0.1/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: x",
        "gopher://127.0.0.1:6379/_x",
        "https://example.com:0/",
        "https://example.com:99999/",
    ],
)
def test_what_is_no_https_address_cannot_be_called(url: str) -> None:
    with pytest.raises(reach.NotReached):
        reach.where(url, private=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:1/",
        "https://localhost/",
        "https://[::1]/",
        "https://0/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/latest/meta-data",
    ],
)
def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(url: str) -> None:
    async def call() -> None:
        async with reach.client() as browser:
            await reach.post(browser, url, b"", {}, private=False)

    with pytest.raises(reach.NotReached, match="not public"):
        asyncio.run(call())
