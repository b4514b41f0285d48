-- name: slug
-- The shop's own address; no row where there is no such shop.
SELECT d.slug FROM mall.shop h JOIN mall.directory d USING (shop_id);

-- name: between
-- Orders that were placed in some time, and those that are named, as far as they stand; `sent_at`: the first parcel of that time.
SELECT o.order_id, o.number, o.owner_id, o.customer_id, o.delivery, o.address, NULLIF(o.breakdown, '{}') AS breakdown, o.placed_at,
    (SELECT min(s.shipped_at) FROM mall.shipment s
     WHERE s.shop_id = o.shop_id AND s.order_id = o.order_id AND s.shipped_at BETWEEN :since ::timestamptz AND :until ::timestamptz) AS sent_at,
    o.placed_at BETWEEN :since ::timestamptz AND :until ::timestamptz AS placed_then,
    (SELECT COALESCE(json_agg(json_build_object('line', l.line, 'sku_id', l.sku_id, 'title', l.title, 'title_en', l.title_en,
        'quantity', l.quantity, 'list_fen', l.list_fen) ORDER BY l.line), '[]')
     FROM mall.order_line l WHERE l.shop_id = o.shop_id AND l.order_id = o.order_id) AS lines
FROM mall.orders o
WHERE (o.placed_at BETWEEN :since ::timestamptz AND :until ::timestamptz OR o.order_id = ANY(:orders ::uuid[]))
  AND o.status <> 'cancelled' AND o.refund_status <> 'refunded'
ORDER BY o.placed_at, o.order_id;

-- name: prices
-- What SKUs cost now.
SELECT sku_id, price_fen FROM mall.sku WHERE sku_id = ANY(:skus ::uuid[]);

-- name: shipped
-- Whether a piece of the order has left.
SELECT COALESCE(bool_or(shipped_quantity > 0), false) AS shipped FROM mall.order_line WHERE order_id = :order_id;

-- name: readdress!
-- The order goes somewhere else.
UPDATE mall.orders SET address = :address ::jsonb, buyer_name = :name, buyer_phone = :phone, version = version + 1 WHERE order_id = :order_id;
