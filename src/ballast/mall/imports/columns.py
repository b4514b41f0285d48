"""The columns of the three files: their names, whether they must be there, an example. `docs/import.md` explains them."""

from __future__ import annotations

import csv
import io
from typing import Literal

import msgspec

Kind = Literal["shops", "products", "orders"]


class Column(msgspec.Struct, frozen=True):
    """A column. `zh`: another name by which it is known."""

    name: str
    zh: str
    example: str = ""
    needed: bool = False


# fmt: off
COLUMNS: dict[Kind, tuple[Column, ...]] = {
    "shops": (
        Column("shop", "店铺地址", "yunwu-tea", needed=True),
        Column("name_zh", "店铺名称", "云雾茶铺", needed=True),
        Column("name_en", "英文名称", "Cloud Mist Tea"),
        Column("industry", "行业", "food", needed=True),
        Column("plan", "套餐", "pro", needed=True),
        Column("service_until", "服务到期", "2027-12-31"),
        Column("opened_at", "开店时间", "2024-03-01 10:00:00"),
        Column("language", "语言", "zh"),
        Column("host", "域名", ""),
        Column("owner_login", "店主账号", "lin@example.com"),
        Column("intro_zh", "简介", "高山茶，产地直发。"),
        Column("intro_en", "英文简介", "Mountain tea, straight from where it grows."),
        Column("service_phone", "客服电话", "400-000-0000"),
        Column("pickup_address", "自提地址", "杭州市西湖区龙井路1号"),
        Column("theme_colour", "主题色", "#07c160"),
        Column("points_per_yuan", "每元积分", "1"),
    ),
    "products": (
        Column("shop", "店铺地址", "yunwu-tea", needed=True),
        Column("product_code", "商品编码", "T-100", needed=True),
        Column("name_zh", "商品名称", "明前龙井茶", needed=True),
        Column("name_en", "英文名称", "Early Spring Longjing"),
        Column("subtitle_zh", "副标题", "狮峰产区"),
        Column("subtitle_en", "英文副标题", "From Lion Peak"),
        Column("category", "分类", "茶叶>绿茶;新品"),
        Column("status", "状态", "on_sale"),
        Column("sku_code", "规格编码", "T-100-50"),
        Column("options", "规格", "规格|Size=50克|50 g"),
        Column("price_yuan", "价格", "168.00", needed=True),
        Column("list_price_yuan", "划线价", "198.00"),
        Column("stock", "库存", "40"),
        Column("weight_g", "重量克", "80"),
        Column("description", "详情", "<p>清明前采摘。</p>"),
        Column("description_en", "英文详情", "<p>Picked before Qingming.</p>"),
        Column("created_at", "创建时间", "2025-03-20 09:00:00"),
    ),
    "orders": (
        Column("shop", "店铺地址", "yunwu-tea", needed=True),
        Column("order", "订单号", "E20250402000117", needed=True),
        Column("placed_at", "下单时间", "2025-04-02 20:15:08", needed=True),
        Column("status", "状态", "closed", needed=True),
        Column("member", "会员", "13800000000"),
        Column("buyer_name", "收货人", "林静"),
        Column("buyer_phone", "手机", "13800000000"),
        Column("delivery", "配送方式", "ship"),
        Column("province", "省", "浙江省"),
        Column("city", "市", "杭州市"),
        Column("district", "区县", "西湖区"),
        Column("street", "详细地址", "龙井路1号"),
        Column("shipping_yuan", "运费", "8.00"),
        Column("paid_at", "付款时间", "2025-04-02 20:15:40"),
        Column("payment_code", "支付单号", "4200001234202504021234567890"),
        Column("shipped_at", "发货时间", "2025-04-03 10:00:00"),
        Column("carrier", "快递公司", "顺丰速运"),
        Column("tracking", "快递单号", "SF0000000000001"),
        Column("received_at", "收货时间", "2025-04-05 18:20:00"),
        Column("closed_at", "完成时间", "2025-04-12 18:20:00"),
        Column("cancelled_at", "取消时间", ""),
        Column("refunded_yuan", "退款金额", ""),
        Column("refunded_at", "退款时间", ""),
        Column("note", "备注", "请放在门口"),
        Column("product_code", "商品编码", "T-100"),
        Column("sku_code", "规格编码", "T-100-50"),
        Column("product_name", "商品名称", "明前龙井茶", needed=True),
        Column("options", "规格", "50克"),
        Column("price_yuan", "单价", "168.00", needed=True),
        Column("quantity", "数量", "1", needed=True),
        Column("discount_yuan", "优惠金额", "10.00"),
    ),
}
# fmt: on

OF_ORDER = frozenset(one.name for one in COLUMNS["orders"][:24])
"""What is said of an order as a whole: in its first line; in the others the same, or nothing."""
OF_PRODUCT = frozenset(("name_zh", "name_en", "subtitle_zh", "subtitle_en", "category", "status", "description",
                        "description_en", "created_at"))  # fmt: skip
"""What is said of a product as a whole."""


def template(kind: Kind) -> bytes:
    """The file's first line and one that shows how; UTF-8 with the mark by which Excel knows it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([one.name for one in COLUMNS[kind]])
    writer.writerow([one.example for one in COLUMNS[kind]])
    return out.getvalue().encode("utf-8-sig")
