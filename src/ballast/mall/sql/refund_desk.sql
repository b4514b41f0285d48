-- name: page
-- Refunds in some states, newest first, with what the list says of their orders.
SELECT r.refund_id, r.order_id, o.number, o.buyer_name, r.status, r.with_return, r.amount_fen, r.reason, r.requested_by, r.created_at, p.undue
FROM mall.refund r JOIN mall.payment p USING (shop_id, payment_id) JOIN mall.orders o ON o.shop_id = r.shop_id AND o.order_id = r.order_id
WHERE (:statuses ::text[] IS NULL OR r.status = ANY(:statuses ::text[]))
  AND (:before_at ::timestamptz IS NULL OR (r.created_at, r.refund_id) < (:before_at ::timestamptz, :before_id ::uuid))
ORDER BY r.created_at DESC, r.refund_id DESC LIMIT :most ::integer;

-- name: counts
-- How many are in each state, counted up to `most`.
SELECT s.status, (SELECT count(*) FROM (SELECT FROM mall.refund r WHERE r.status = s.status LIMIT :most ::integer) AS capped) AS refunds
FROM unnest(:each ::text[]) AS s (status);
