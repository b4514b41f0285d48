"""An example of everything that the API says and hears, for its document: one story of a tea shop, the same ids throughout."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.states import Event, RefundStatus, Status
from ballast.mall.web.api import own_shapes as own
from ballast.mall.web.api import problems
from ballast.mall.web.api import shapes as said

_PRODUCT, _SKU, _CATEGORY = (UUID(f"0192f0c0-0000-7000-8000-00000000000{n}") for n in "123")
_VISITOR, _CUSTOMER, _ADDRESS = (UUID(f"0192f0c0-0000-7000-8000-00000000001{n}") for n in "123")
_ORDER, _SHIPMENT, _REFUND, _MOVEMENT = (UUID(f"0192f0c0-0000-7000-8000-00000000002{n}") for n in "1234")
_COUPON, _CLAIM, _SHIPPING = (UUID(f"0192f0c0-0000-7000-8000-00000000003{n}") for n in "123")
_PICTURE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_AT = datetime(2026, 11, 27, 1, 30, tzinfo=UTC)
_LATER = datetime(2026, 11, 27, 2, 0, tzinfo=UTC)
_END = datetime(2026, 12, 31, 16, 0, tzinfo=UTC)
_TITLE = ("明前龙井", "Longjing tea")
_PLACE = ("林小雨", "13800000000", "浙江省", "杭州市", "西湖区", "龙井路 1 号")
_NEXT = "/api/v1/shops/demo/products?limit=20&cursor=WzAsIjAxOTJmMGMwIl0"


@cache
def by_kind() -> Mapping[type, object]:
    """Each by its type."""
    return {type(one): one for one in _shoppers() + _software()}


def _shoppers() -> list[object]:
    address = said.AddressInfo(*_PLACE)
    category = said.CategoryInfo(_CATEGORY, None, "绿茶", "Green tea", _PICTURE)
    item = said.ProductItem(_PRODUCT, *_TITLE, "当季新茶", "This season", _PICTURE, 12800, 12800, 1280)
    value = said.SpecValueInfo("250g", "250 g")
    spec = said.SpecInfo("规格", "Size", (value,))
    sku = said.SkuInfo(_SKU, ["250g"], 12800, 15800, None, None, 12800, 86)
    visitor = said.VisitorInfo(_VISITOR, _CUSTOMER, "林小雨", 1, 320, "13800000000", None)
    login = said.LoginInfo("rVnXk0c3l8yCqT2m5eJw7bPz1sHdGfAoUiYx9R4tB6E", visitor)
    kept = said.SavedAddressInfo(_ADDRESS, *_PLACE, True)
    scope = said.ScopeInfo((), (_CATEGORY,))
    terms = ("满 100 减 20", "20 off 100", 2000, None, None, 10000, scope, _AT, _END)
    offered = said.OfferedCouponInfo(*terms, coupon_id=_COUPON, per_customer=1, taken=0, left=480, why_not=None)
    held = said.CouponInfo(*terms, claim_id=_CLAIM, state="good", used_at=None)
    cart_line = said.CartLineInfo(_SKU, _PRODUCT, *_TITLE, ["250g"], _PICTURE, 1, 12800, 86, True, True)
    wanted = said.WantedLine(_SKU, 1)
    quoted = said.QuotedLineInfo(_SKU, _PRODUCT, *_TITLE, ["250g"], _PICTURE, 1, 12800, 10800, 86)
    steps = (
        said.StepInfo("price.goods", 12800, {}),
        said.StepInfo("price.coupon", -2000, {"name": "满 100 减 20"}),
        said.StepInfo("price.shipping", 0, {}),
    )
    line = order_line()
    back = said.BackInfo(1, 1, 10800)
    refund = said.RefundInfo(
        _REFUND, _ORDER, RefundState.REQUESTED, False, (back,), 0, 10800, "买多了", "", "", "", _LATER, None, None
    )
    order: dict[str, Any] = {
        "order_id": _ORDER,
        "number": "20261127-4831-5527",
        "status": Status.PAID,
        "refund_status": RefundStatus.NONE,
        "buyer_name": "林小雨",
        "buyer_phone": "13800000000",
        "delivery": "ship",
        "total_fen": 10800,
        "paid_fen": 10800,
        "refunded_fen": 0,
        "placed_at": _AT,
        "pay_by": _LATER,
        "lines": (line,),
    }
    listed = said.OrderItem(**order)
    sent = said.SentInfo(1, 1)
    parcel = said.ShipmentInfo(_SHIPMENT, "顺丰速运", "SF1234567890", (sent,), _LATER)
    return [
        said.ShopInfo(
            "demo", "龙井茶铺", "Longjing Tea House", "产地直发", "From the garden", _PICTURE, "400-800-0000", "zh", "#07c160",
            "西湖区龙井路 1 号", 1,
        ),
        category,
        said.CategoryList((category,)),
        item,
        said.ProductPage((item,), _NEXT),
        value,
        spec,
        sku,
        said.ProductInfo(
            _PRODUCT, *_TITLE, "当季新茶", "This season", "<p>清香甘醇。</p>", "<p>Fresh and sweet.</p>", (spec,), [_PICTURE],
            12800, 12800, 1280, (sku,),
        ),
        visitor,
        login,
        said.SignUp("13800000000", "four words in one", "林小雨"),
        said.SignIn("13800000000", "four words in one"),
        said.NameRequest("林小雨"),
        said.PasswordRequest("four words in one", "four other words now"),
        said.ResetRequest("13800000000", "4831 5527", "four other words now"),
        address,
        said.AddressRequest("林小雨", "13800000000", "浙江省", "龙井路 1 号", "杭州市", "西湖区", True),
        kept,
        said.SavedAddressList((kept,)),
        scope,
        offered,
        said.OfferedCouponList((offered,)),
        held,
        said.CouponList((held,)),
        said.CouponRequest(_COUPON),
        said.TakenInfo(_CLAIM),
        cart_line,
        said.CartInfo((cart_line,), 1),
        said.CartQuantity(1),
        wanted,
        said.QuoteRequest((wanted,), address, "ship", _CLAIM),
        said.OrderRequest((wanted,), address, 10800, "ship", _CLAIM, "请周末送货", True, "F7KM-2QXB-9WTC-HN4D"),
        *steps[:1],
        quoted,
        said.QuoteInfo((quoted,), steps, 2000, 0, True, 10800, True, None),
        said.PlacedInfo(_ORDER, "20261127-4831-5527", 10800, _LATER, Status.PENDING_PAYMENT, "https://pay.example.com/p/0192f0c0"),
        line,
        listed,
        said.OrderPage((listed,), None),
        sent,
        parcel,
        said.DeliveryInfo(*_PLACE),
        said.OrderInfo(
            **order,
            address=said.DeliveryInfo(*_PLACE),
            items_fen=12800,
            discount_fen=2000,
            shipping_fen=0,
            note="请周末送货",
            paid_at=_AT,
            shipped_at=None,
            received_at=None,
            closed_at=None,
            cancelled_at=None,
            cancel_reason=None,
            shipments=(),
            possible=(Event.SHIP,),
        ),
        said.PaymentRequest("F7KM-2QXB-9WTC-HN4D"),
        said.PaymentInfo("https://pay.example.com/p/0192f0c0", "pending_payment"),
        said.RefundLineRequest(1, 1),
        said.RefundRequest("买多了", False, (said.RefundLineRequest(1, 1),)),
        said.ParcelBack("顺丰速运", "SF0987654321"),
        back,
        refund,
        said.RefundList((refund,)),
        said.RefundPage((refund,), None),
    ]  # fmt: skip


def order_line() -> said.OrderLineInfo:
    """A line of the story's order."""
    return said.OrderLineInfo(1, _PRODUCT, _SKU, *_TITLE, ["250g"], _PICTURE, 12800, 1, 2000, 10800, 0, 0, 0)


def _software() -> list[object]:
    listed: dict[str, Any] = {
        "product_id": _PRODUCT,
        "status": "on_sale",
        "title": _TITLE[0],
        "title_en": _TITLE[1],
        "min_price_fen": 12800,
        "max_price_fen": 12800,
        "sold": 1280,
        "external_code": "TEA-001",
        "created_at": _AT,
        "updated_at": _LATER,
    }
    item = own.OfferItem(**listed)
    sku = own.OfferedSkuInfo(_SKU, "TEA-001-250", ["250g"], 12800, 15800, 280, True, 100, 14)
    value = own.OptionValue("250g", "250 g")
    option = own.OptionRequest("规格", (value,), "Size")
    new = own.SkuRequest(12800, ("250g",), 15800, 280, "TEA-001-250", 100)
    spec = said.SpecInfo("规格", "Size", (said.SpecValueInfo("250g", "250 g"),))
    picture = own.PictureInfo(_PICTURE, f"/pictures/{_CATEGORY}/{_PICTURE}", 1080, 810, 84210)
    category = own.OwnCategoryInfo(_CATEGORY, None, "绿茶", "Green tea", _PICTURE, True, 12)
    shipping = own.ShippingInfo(_SHIPPING, "全国包邮", True)
    moved = own.MovementInfo(_MOVEMENT, _SKU, "receive", 100, 0, None, "key:till", "新到货", _AT)
    member = own.MemberInfo(_CUSTOMER, "林小雨", "13800000000", None, 1, 320, 45600, None, _AT)
    parcel = said.ShipmentInfo(_SHIPMENT, "顺丰速运", "SF1234567890", (said.SentInfo(1, 1),), _LATER)
    return [
        own.KeyInfo("demo", "till", ["orders.read", "products.write", "stock.write"], "open"),
        item,
        own.OfferPage((item,), None),
        sku,
        own.OfferInfo(
            **listed,
            subtitle="当季新茶",
            subtitle_en="This season",
            description="<p>清香甘醇。</p>",
            description_en="<p>Fresh and sweet.</p>",
            position=0,
            shipping_id=None,
            categories=[_CATEGORY],
            pictures=[_PICTURE],
            options=(spec,),
            skus=(sku,),
        ),
        value,
        option,
        new,
        own.SkuChange(("250g",), 11800),
        own.ProductRequest(
            title=_TITLE[0],
            title_en=_TITLE[1],
            subtitle="当季新茶",
            subtitle_en="This season",
            description="清香甘醇。",
            description_en="Fresh and sweet.",
            external_code="TEA-001",
            categories=(_CATEGORY,),
            pictures=(_PICTURE,),
            options=(option,),
            skus=(new,),
            status="on_sale",
        ),
        own.ProductChange(title=_TITLE[0], skus=(own.SkuChange(("250g",), 11800),), status="on_sale"),
        picture,
        own.PicturePage((picture,), None),
        category,
        own.OwnCategoryList((category,)),
        shipping,
        own.ShippingList((shipping,)),
        own.SkuPatch(price_fen=11800, compare_at_fen=15800),
        own.StockInfo(_SKU, 100, 14, 86),
        own.StockCount(100, "盘点"),
        own.StockChange(20, "新到货"),
        moved,
        own.MovementPage((moved,), None),
        own.OwnOrderInfo(
            order_id=_ORDER,
            number="20261127-4831-5527",
            status=Status.SHIPPED,
            refund_status=RefundStatus.NONE,
            buyer_name="林小雨",
            buyer_phone="13800000000",
            delivery="ship",
            total_fen=10800,
            paid_fen=10800,
            refunded_fen=0,
            placed_at=_AT,
            pay_by=_LATER,
            lines=(order_line(),),
            address=said.DeliveryInfo(*_PLACE),
            items_fen=12800,
            discount_fen=2000,
            shipping_fen=0,
            note="请周末送货",
            paid_at=_AT,
            shipped_at=_LATER,
            received_at=None,
            closed_at=None,
            cancelled_at=None,
            cancel_reason=None,
            shipments=(parcel,),
            possible=(Event.RECEIVE,),
            customer_id=_CUSTOMER,
            merchant_note="老顾客",
            source="api",
        ),
        own.ShippedLine(1, 1),
        own.ShipmentRequest("顺丰速运", "SF1234567890", (own.ShippedLine(1, 1),)),
        own.CancelRequest("缺货"),
        own.NoteRequest("老顾客"),
        own.RefundAnswer("已同意"),
        own.RefundRefusal("商品已拆封"),
        own.GoodsBack(True),
        member,
        own.MemberPage((member,), None),
        problems.Fault("price_fen", "Expected `int`, got `str`"),
        problems.Problem(
            "urn:ballast:problem:stock.short", "Not possible as things stand", 409, "stock.short",
            "There is not enough in stock of 1 of these.", (), {"count": 1, "free": {str(_SKU): 2}},
        ),
    ]  # fmt: skip
