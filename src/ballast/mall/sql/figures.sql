-- name: shops_by_status
SELECT status, count(*) AS shops, count(*) FILTER (WHERE status = 'open' AND service_until <= :now) AS lapsed,
    count(*) FILTER (WHERE status = 'open' AND service_until > :now AND service_until <= :soon) AS ending
FROM mall.directory GROUP BY status;

-- name: by_day
-- Orders of all shops by the day (in China) on which they were placed: for each shop the end of its index by time.
WITH days AS (
    SELECT generate_series(:first::date, :last::date, interval '1 day')::date AS day
), sold AS (
    SELECT (o.placed_at AT TIME ZONE 'Asia/Shanghai')::date AS day, count(*) AS orders,
        count(*) FILTER (WHERE o.paid_fen > 0) AS paid, sum(o.paid_fen) AS gmv_fen, sum(o.refunded_fen) AS refunded_fen
    FROM mall.directory d
    CROSS JOIN LATERAL (
        SELECT placed_at, paid_fen, refunded_fen FROM mall.orders WHERE shop_id = d.shop_id AND placed_at >= :since
    ) o
    GROUP BY 1
), opened AS (
    SELECT (opened_at AT TIME ZONE 'Asia/Shanghai')::date AS day, count(*) AS shops FROM mall.directory
    WHERE opened_at >= :since GROUP BY 1
)
SELECT d.day, coalesce(s.orders, 0) AS orders, coalesce(s.paid, 0) AS paid, coalesce(s.gmv_fen, 0)::bigint AS gmv_fen,
    coalesce(s.refunded_fen, 0)::bigint AS refunded_fen, coalesce(o.shops, 0) AS shops_opened
FROM days d LEFT JOIN sold s USING (day) LEFT JOIN opened o USING (day)
ORDER BY d.day;
