-- name: by_hour
-- Orders by the hour in which they were placed, and how many came meanwhile. An hour in which nothing was is missing.
WITH sold AS (
    SELECT date_trunc('hour', o.placed_at, 'UTC') AS hour, count(*) AS orders, count(*) FILTER (WHERE o.source = 'web') AS web_orders,
        count(*) FILTER (WHERE o.paid_at IS NOT NULL) AS paid, sum(o.paid_fen)::bigint AS sales_fen, sum(o.refunded_fen)::bigint AS refunded_fen
    FROM mall.orders o WHERE o.placed_at >= :since ::timestamptz AND o.placed_at < :until ::timestamptz GROUP BY 1
), came AS (
    SELECT hour, views, visitors, carts, checkouts FROM mall.visit_hour WHERE hour >= :since ::timestamptz AND hour < :until ::timestamptz
)
SELECT hour, COALESCE(s.orders, 0) AS orders, COALESCE(s.web_orders, 0) AS web_orders, COALESCE(s.paid, 0) AS paid,
    COALESCE(s.sales_fen, 0) AS sales_fen, COALESCE(s.refunded_fen, 0) AS refunded_fen, COALESCE(c.views, 0) AS views,
    COALESCE(c.visitors, 0) AS visitors, COALESCE(c.carts, 0) AS carts, COALESCE(c.checkouts, 0) AS checkouts
FROM sold s FULL JOIN came c USING (hour) ORDER BY hour;

-- name: until_now
-- What an earlier day had come to at this time of the day.
SELECT count(*) AS orders, count(*) FILTER (WHERE paid_at IS NOT NULL) AS paid, COALESCE(sum(paid_fen), 0)::bigint AS sales_fen
FROM mall.orders WHERE placed_at >= :since ::timestamptz AND placed_at < :until ::timestamptz;

-- name: top_products
-- What was paid for most, of orders placed in this time.
SELECT l.product_id, max(l.title) AS title, max(l.title_en) AS title_en, sum(l.quantity)::bigint AS pieces, sum(l.total_fen)::bigint AS sales_fen
FROM mall.orders o JOIN mall.order_line l ON l.shop_id = o.shop_id AND l.order_id = o.order_id
WHERE o.placed_at >= :since ::timestamptz AND o.placed_at < :until ::timestamptz AND o.paid_at IS NOT NULL
GROUP BY l.product_id, CASE WHEN l.product_id IS NULL THEN l.title END
ORDER BY sales_fen DESC, pieces DESC, title LIMIT :most ::integer;

-- name: to_do
-- What waits for the shop's people, each counted up to `most`.
SELECT
    (SELECT count(*) FROM (SELECT FROM mall.orders WHERE status = ANY(ARRAY['paid', 'partly_shipped']) LIMIT :most ::integer) AS capped) AS to_send,
    (SELECT count(*) FROM (SELECT FROM mall.refund WHERE status = ANY(ARRAY['requested', 'returned']) LIMIT :most ::integer) AS capped) AS to_decide,
    (SELECT count(*) FROM (SELECT FROM mall.refund WHERE status = 'awaiting_return' LIMIT :most ::integer) AS capped) AS awaited,
    (SELECT count(*) FROM (SELECT FROM mall.orders WHERE status = 'pending_payment' LIMIT :most ::integer) AS capped) AS unpaid,
    (SELECT count(*) FROM (SELECT FROM mall.exception WHERE settled_at IS NULL LIMIT :most ::integer) AS capped) AS exceptions;

-- name: low_stock
-- SKUs on sale of which few are free, the scarcest first.
SELECT p.product_id, p.title, p.title_en, k.options, k.code, s.on_hand - s.reserved AS free
FROM mall.stock s JOIN mall.sku k ON k.shop_id = s.shop_id AND k.sku_id = s.sku_id JOIN mall.product p ON p.shop_id = k.shop_id AND p.product_id = k.product_id
WHERE s.on_hand - s.reserved <= :few ::integer AND k.active AND p.status = 'on_sale'
ORDER BY free, p.product_id, k.position LIMIT :most ::integer;

-- name: stopped_webhooks
-- What we turned off since nobody answered, and nobody has turned on again.
SELECT webhook_id, url, stopped_at FROM mall.webhook WHERE stopped_at IS NOT NULL AND removed_at IS NULL AND NOT active
ORDER BY stopped_at DESC, webhook_id;
