"""Who carries parcels in China, by the codes that tracking services use (those of kuaidi100.com).

An order keeps the code; pages show the name. `OTHER` is named freely, `SELF` is the shop's own messenger and has no number.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from ballast.mall.rules.refused import Refused

SELF = "self"
OTHER = "other"
PICKUP = "pickup"
"""Nobody carried it: it was handed over in the shop."""
_TRACKING = re.compile(r"[A-Za-z0-9-]{6,40}")


class Carrier(msgspec.Struct, frozen=True):
    """A carrier, its name in either language."""

    code: str
    zh: str
    en: str


CARRIERS: tuple[Carrier, ...] = (
    Carrier("shunfeng", "顺丰速运", "SF Express"),
    Carrier("zhongtong", "中通快递", "ZTO Express"),
    Carrier("yuantong", "圆通速递", "YTO Express"),
    Carrier("yunda", "韵达快递", "Yunda Express"),
    Carrier("shentong", "申通快递", "STO Express"),
    Carrier("jtexpress", "极兔速递", "J&T Express"),
    Carrier("jd", "京东物流", "JD Logistics"),
    Carrier("ems", "EMS", "EMS"),
    Carrier("youzhengguonei", "邮政快递包裹", "China Post"),
    Carrier("debangkuaidi", "德邦快递", "Deppon Express"),
    Carrier("danniao", "菜鸟速递", "Cainiao Express"),
    Carrier("kuayue", "跨越速运", "KYE Express"),
    Carrier("annengwuliu", "安能物流", "ANE Logistics"),
    Carrier("zhaijisong", "宅急送", "ZJS Express"),
    Carrier("youshuwuliu", "优速快递", "UC Express"),
    Carrier(SELF, "商家自送", "The shop's own messenger"),
    Carrier(OTHER, "其他承运商", "Another carrier"),
)
_PICKED_UP = Carrier(PICKUP, "门店自提", "Picked up")
_BY_CODE = {one.code: one for one in (*CARRIERS, _PICKED_UP)}


def carrier_name(code: str, language: Literal["zh", "en"]) -> str:
    """As pages show it. What is no code was named freely, and is shown as it is."""
    known = _BY_CODE.get(code)
    if known is None:
        return code
    return known.zh if language == "zh" else known.en


def chosen(code: str, named: str, tracking: str) -> tuple[str, str]:
    """(carrier, tracking number) as they are kept, of what a form sent.

    Refused: `ship.carrier` (not of the list, or another one without a name), `ship.tracking` (missing, or no such number)."""
    number = "".join(tracking.split())
    if code not in {one.code for one in CARRIERS} or (code == OTHER and not named.strip()):
        raise Refused("ship.carrier", f"{code!r} is no carrier.", "Choose one of the list, or name another.")
    if (number or code not in (SELF, OTHER)) and not _TRACKING.fullmatch(number):
        raise Refused("ship.tracking", f"{number!r} is no tracking number.", "It has 6 to 40 letters and digits.")
    return (named.strip()[:60] if code == OTHER else code), number
