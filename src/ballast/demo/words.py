"""What the report says, in Chinese and English. Names of `{figures}` are those of `outcome.Claim.seen`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["zh", "en"]
Pair = tuple[str, str]
"""Chinese, English."""

CLAIMS: Mapping[str, tuple[Pair, Pair]] = {
    "unasked": (
        ("数据库在结束时可以查询", "the database can be asked at the end"),
        ("{why}", "{why}"),
    ),
    "lost": (
        ("已确认的订单一个不少", "no acknowledged order is lost"),
        (
            "已确认 {acknowledged:,} 单，丢失 {lost:,}，作为异常交给商家 {excepted:,}",
            "{acknowledged:,} acknowledged, {lost:,} lost, {excepted:,} before the merchant as exceptions",
        ),
    ),
    "doubled": (
        ("没有重复的订单", "no order is there twice"),
        (
            "重复 {doubled:,}（另有 {unheard:,} 单已成立、顾客未收到回应）",
            "{doubled:,} doubled ({unheard:,} more stand whose shopper did not get the answer)",
        ),
    ),
    "changed": (
        ("订单的商品、金额、编号与顾客所见一致", "orders have the goods, total and number that their shoppers saw"),
        ("不一致 {changed:,}", "{changed:,} differ"),
    ),
    "money": (
        ("每笔付款只入账一次", "every payment is booked, once"),
        ("顾客看到已付款 {paid:,} 单，有误 {wrong:,}", "{paid:,} orders were shown as paid, {wrong:,} wrong"),
    ),
    "edits": (
        ("商家保存的修改仍在", "what merchants saved is there"),
        ("已保存 {edited:,} 次，丢失 {lost:,}", "{edited:,} changes saved, {lost:,} lost"),
    ),
    "books": (
        ("库存等于出入之和，账目借贷平衡", "stock is the sum of its movements, the books balance"),
        ("库存有误 {stock:,}，账目有误 {books:,}", "{stock:,} SKUs wrong, {books:,} transactions wrong"),
    ),
    "closed": (
        ("店铺没有关门", "no shop was closed"),
        (
            "所有店铺合计 {minutes:.1f} 分钟（{shops:,} 家）",
            "{minutes:.1f} minutes of all shops together ({shops:,} shops)",
        ),
    ),
    "errors": (
        ("第一秒之后没有错误页", "no error is shown after the first second"),
        ("{errors:,} 个；第一秒内 {first:,} 个", "{errors:,}; {first:,} within the first second"),
    ),
    "views": (
        ("事故期间页面浏览不低于之前的 95%", "pages are served at 0.95 or more of the pace before"),
        (
            "{share:.2f}：之前每秒 {before:.1f} 页，期间每秒 {during:.1f} 页",
            "{share:.2f}: {before:.1f} a second before, {during:.1f} during",
        ),
    ),
    "orders": (
        ("事故期间下单不低于之前的 95%", "orders are taken at 0.95 or more of the pace before"),
        (
            "{share:.2f}：之前每秒 {before:.2f} 单，期间每秒 {during:.2f} 单",
            "{share:.2f}: {before:.2f} a second before, {during:.2f} during",
        ),
    ),
    "first_order": (
        ("数据库丢失后 1 秒内收下第一单", "the first order is taken within 1 s of the loss"),
        ("{seconds}", "{seconds}"),
    ),
    "all_home": (
        ("所有店铺 60 秒内恢复并合并", "all shops are back and merged within 60 s"),
        ("{seconds}（{shops:,} 家）", "{seconds} ({shops:,} shops)"),
    ),
    "undone": (
        ("被改动的数据已撤销", "what was changed is undone"),
        (
            "{shops:,} 家店铺中 {changed:,} 行被改动，撤销 {rows:,} 行，用时 {seconds} {why}",
            "{changed:,} rows of {shops:,} shops were changed, {rows:,} went back, after {seconds} {why}",
        ),
    ),
    "reviewed": (
        ("错误价格下的订单都交给了商家", "every order at a wrong price is before its merchant"),
        ("{cheap:,} 单，未交给商家 {missed:,}", "{cheap:,} orders, {missed:,} not"),
    ),
    "whole": (
        ("每家店铺与事故之前一致", "every shop is what it was before"),
        (
            "{shops:,} 家店铺中无人改动的 {rows:,} 行，有 {other:,} 家不同",
            "{shops:,} shops, {rows:,} rows that nobody changed; {other:,} shops differ",
        ),
    ),
    "equal": (
        ("每家店铺与记录逐行相等", "every shop equals the record, row by row"),
        (
            "{shops:,} 家店铺、{rows:,} 行、{tables:,} 张表 {why}",
            "{shops:,} shops, {rows:,} rows in {tables:,} tables {why}",
        ),
    ),
}
"""Each promise, and what was seen of it."""

MOMENTS: Mapping[str, Pair] = {
    "lost": ("数据丢失", "the data is lost"),
    "noticed": ("察觉", "it is noticed"),
    "afloat": ("救生艇就绪：店铺照常营业", "the lifeboat is open: shops go on"),
    "first_order": ("收下第一单", "the first order is taken"),
    "struck": ("服务器被杀，数据目录被删", "the server is killed and its data removed"),
    "home_open": ("新服务器就绪", "the new server is open"),
    "first_home": ("第一家店铺回家", "the first shop is home"),
    "all_home": ("所有店铺回家并合并", "all shops are home and merged"),
    "changed": ("价格、地址、库存、积分被改", "prices, addresses, stock and points are changed"),
    "found": ("从记录中找到", "it is found in the record"),
    "undone": ("已撤销", "it is undone"),
    "reviewed": ("其间的订单交给商家处理", "orders that came in between are before their merchants"),
}


def seconds(value: object, language: Language) -> str:
    """A span for people."""
    if not isinstance(value, float | int):
        return "没有发生" if language == "zh" else "it did not happen"
    return f"{value:.2f} 秒" if language == "zh" else f"{value:.2f} s"


def claim(name: str, seen: Mapping[str, object], language: Language) -> tuple[str, str]:
    """The promise, and what was seen, in one of the languages."""
    at = 0 if language == "zh" else 1
    promised, told = CLAIMS[name]
    values = {**seen, "seconds": seconds(seen["seconds"], language)} if "seconds" in seen else seen
    return promised[at], told[at].format(**values).strip()
