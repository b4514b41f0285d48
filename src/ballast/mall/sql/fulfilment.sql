-- What a shop's people look for among its orders. The conditions of `page`, `counts`, `counts_among` and `export` are the same, and must be.

-- name: found
-- What a text finds (`ids` of the others): a whole phone number and the beginning of a number among all orders, by their indexes; parts
-- of names and titles, which no index finds, among the newest `newest` of these days (in whatever state: all are counted). `partly`:
-- there are older ones.
WITH newest AS MATERIALIZED (
    SELECT o.order_id, o.buyer_name FROM mall.orders o
    WHERE (:delivery ::text IS NULL OR o.delivery = :delivery ::text)
      AND (:since ::timestamptz IS NULL OR o.placed_at >= :since ::timestamptz)
      AND (:until ::timestamptz IS NULL OR o.placed_at < :until ::timestamptz)
      AND (:customer_id ::uuid IS NULL OR o.customer_id = :customer_id ::uuid)
    ORDER BY o.placed_at DESC, o.order_id DESC LIMIT :newest ::integer
)
SELECT (SELECT count(*) FROM newest) >= :newest ::integer AS partly, ARRAY(
    SELECT n.order_id FROM newest n
    WHERE strpos(lower(n.buyer_name), :text ::text) > 0
       OR EXISTS (SELECT FROM mall.order_line l WHERE l.shop_id = mall.current_shop() AND l.order_id = n.order_id
                  AND (strpos(lower(l.title), :text ::text) > 0 OR strpos(lower(l.title_en), :text ::text) > 0))
    UNION SELECT o.order_id FROM mall.orders o WHERE o.buyer_phone = :text ::text AND o.buyer_phone <> ''
    UNION SELECT o.order_id FROM mall.orders o WHERE o.number >= :digits ::text AND o.number < :digits ::text || ':' AND starts_with(o.number, :digits ::text)
) AS ids;

-- name: page
-- Orders that are looked for, newest first; before_at and before_id are the last one of the page before.
SELECT o.order_id, o.number, o.status, o.refund_status, o.customer_id, o.buyer_name, o.buyer_phone, o.delivery, o.total_fen, o.paid_fen,
       o.refunded_fen, o.source, o.note, o.merchant_note, o.placed_at, o.paid_at,
       EXISTS (SELECT FROM mall.refund r WHERE r.shop_id = o.shop_id AND r.order_id = o.order_id
               AND r.status NOT IN ('refused', 'withdrawn', 'succeeded')) AS refund_open
FROM mall.orders o
WHERE (:statuses ::text[] IS NULL OR o.status = ANY(:statuses ::text[]))
  AND (:delivery ::text IS NULL OR o.delivery = :delivery ::text)
  AND (:since ::timestamptz IS NULL OR o.placed_at >= :since ::timestamptz)
  AND (:until ::timestamptz IS NULL OR o.placed_at < :until ::timestamptz)
  AND (:customer_id ::uuid IS NULL OR o.customer_id = :customer_id ::uuid)
  AND (:ids ::uuid[] IS NULL OR o.order_id = ANY(:ids ::uuid[]))
  AND (:before_at ::timestamptz IS NULL OR (o.placed_at, o.order_id) < (:before_at ::timestamptz, :before_id ::uuid))
ORDER BY o.placed_at DESC, o.order_id DESC LIMIT :most ::integer;

-- name: counts
-- How many of them are in each state, counted up to `most`.
SELECT s.status, (SELECT count(*) FROM (
    SELECT FROM mall.orders o
    WHERE o.status = s.status
      AND (:delivery ::text IS NULL OR o.delivery = :delivery ::text)
      AND (:since ::timestamptz IS NULL OR o.placed_at >= :since ::timestamptz)
      AND (:until ::timestamptz IS NULL OR o.placed_at < :until ::timestamptz)
      AND (:customer_id ::uuid IS NULL OR o.customer_id = :customer_id ::uuid)
    LIMIT :most ::integer) AS capped) AS orders
FROM unnest(:each ::text[]) AS s (status);

-- name: counts_among
-- The same of those that a text found.
SELECT o.status, count(*) AS orders FROM mall.orders o
WHERE o.order_id = ANY(:ids ::uuid[])
  AND (:delivery ::text IS NULL OR o.delivery = :delivery ::text)
  AND (:since ::timestamptz IS NULL OR o.placed_at >= :since ::timestamptz)
  AND (:until ::timestamptz IS NULL OR o.placed_at < :until ::timestamptz)
  AND (:customer_id ::uuid IS NULL OR o.customer_id = :customer_id ::uuid)
GROUP BY o.status;

-- name: export
-- They and their lines, a row a line, in the order of the list; read by a cursor on the server.
SELECT o.order_id, o.number, o.status, o.refund_status, o.delivery, o.source, o.buyer_name, o.buyer_phone, o.address::text AS address, o.items_fen,
       o.discount_fen, o.shipping_fen, o.total_fen, o.paid_fen, o.refunded_fen, o.note, o.merchant_note, o.placed_at, o.paid_at, o.shipped_at, o.received_at,
       l.line, l.title, l.title_en, array_to_string(l.options, ' / ') AS options, k.code AS sku_code, l.price_fen, l.quantity, l.discount_fen AS line_discount_fen,
       l.total_fen AS line_total_fen, l.shipped_quantity, l.refunded_quantity, l.refunded_fen AS line_refunded_fen,
       (SELECT json_agg(json_build_array(p.carrier, p.tracking) ORDER BY p.shipped_at, p.shipment_id)::text FROM mall.shipment p
        WHERE p.shop_id = o.shop_id AND p.order_id = o.order_id) AS parcels
FROM mall.orders o
LEFT JOIN mall.order_line l ON l.shop_id = o.shop_id AND l.order_id = o.order_id
LEFT JOIN mall.sku k ON k.shop_id = l.shop_id AND k.sku_id = l.sku_id
WHERE (:statuses ::text[] IS NULL OR o.status = ANY(:statuses ::text[]))
  AND (:delivery ::text IS NULL OR o.delivery = :delivery ::text)
  AND (:since ::timestamptz IS NULL OR o.placed_at >= :since ::timestamptz)
  AND (:until ::timestamptz IS NULL OR o.placed_at < :until ::timestamptz)
  AND (:customer_id ::uuid IS NULL OR o.customer_id = :customer_id ::uuid)
  AND (:ids ::uuid[] IS NULL OR o.order_id = ANY(:ids ::uuid[]))
ORDER BY o.placed_at DESC, o.order_id DESC, l.line;
