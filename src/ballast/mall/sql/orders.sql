-- name: placed
-- What the answer to placing an order says.
SELECT number, total_fen, pay_by, status FROM mall.orders WHERE order_id = :order_id;

-- name: lock
-- Where an order stands; nobody else changes it until this transaction ends.
SELECT o.order_id, o.number, o.status, o.refund_status, o.customer_id, o.owner_id, o.items_fen, o.discount_fen, o.shipping_fen, o.total_fen,
       o.paid_fen, o.refunded_fen, o.coupon_claim_id, o.pay_by, o.shipped_at, o.received_at, o.breakdown::text AS breakdown,
       COALESCE((SELECT json_agg(json_build_object('product_id', l.product_id, 'sku_id', l.sku_id, 'quantity', l.quantity))
                 FROM mall.order_line l WHERE l.shop_id = o.shop_id AND l.order_id = o.order_id), '[]')::text AS goods,
       h.points_per_yuan, h.receive_within_s
FROM mall.orders o JOIN mall.shop h USING (shop_id)
WHERE o.order_id = :order_id
FOR UPDATE OF o;

-- name: lock_of_provider
-- The same of the order of a payment, or of a refund, at a provider. (One statement for these and for `lock` would be planned anew
-- each time, which takes longer than all else that a callback does.)
SELECT o.order_id, o.number, o.status, o.refund_status, o.customer_id, o.owner_id, o.items_fen, o.discount_fen, o.shipping_fen, o.total_fen,
       o.paid_fen, o.refunded_fen, o.coupon_claim_id, o.pay_by, o.shipped_at, o.received_at, o.breakdown::text AS breakdown,
       COALESCE((SELECT json_agg(json_build_object('product_id', l.product_id, 'sku_id', l.sku_id, 'quantity', l.quantity))
                 FROM mall.order_line l WHERE l.shop_id = o.shop_id AND l.order_id = o.order_id), '[]')::text AS goods,
       h.points_per_yuan, h.receive_within_s
FROM mall.orders o JOIN mall.shop h USING (shop_id)
WHERE o.order_id = (SELECT p.order_id FROM mall.payment p WHERE p.provider = :provider AND p.payment_id =
    CASE WHEN :of_refund ::boolean THEN (SELECT r.payment_id FROM mall.refund r WHERE r.refund_id = :reference) ELSE :reference END)
FOR UPDATE OF o;

-- name: step!
-- The order stands elsewhere now: its row, its event, and what goes out about it.
WITH changed AS (
    UPDATE mall.orders SET status = :status, refund_status = :refund_status, version = version + 1,
        paid_fen = CASE WHEN :paid ::boolean THEN total_fen ELSE paid_fen END,
        refunded_fen = refunded_fen + :refunded_fen ::bigint,
        paid_at = CASE WHEN :paid ::boolean THEN :now ::timestamptz ELSE paid_at END,
        shipped_at = CASE WHEN :status = 'shipped' THEN COALESCE(shipped_at, :now ::timestamptz) ELSE shipped_at END,
        received_at = CASE WHEN :status = 'received' THEN COALESCE(received_at, :now ::timestamptz) ELSE received_at END,
        closed_at = CASE WHEN :status = 'closed' THEN COALESCE(closed_at, :now ::timestamptz) ELSE closed_at END,
        cancelled_at = CASE WHEN :status = 'cancelled' THEN COALESCE(cancelled_at, :now ::timestamptz) ELSE cancelled_at END,
        cancel_reason = CASE WHEN :status = 'cancelled' THEN COALESCE(cancel_reason, :reason ::text) ELSE cancel_reason END
    WHERE order_id = :order_id
), event AS (
    INSERT INTO mall.order_event (shop_id, order_id, event_id, event, status, actor, detail, at)
    VALUES (mall.current_shop(), :order_id, :event_id, :event, :status, :actor, :detail ::jsonb, :now)
)
INSERT INTO mall.outbox (shop_id, event_id, kind, body, created_at)
VALUES (mall.current_shop(), :event_id, :kind, :body ::jsonb, :now);

-- name: told!
-- The event, and what goes out about it, of an order whose row says so already.
WITH event AS (
    INSERT INTO mall.order_event (shop_id, order_id, event_id, event, status, actor, detail, at)
    VALUES (mall.current_shop(), :order_id, :event_id, :event, :status, :actor, :detail ::jsonb, :now)
)
INSERT INTO mall.outbox (shop_id, event_id, kind, body, created_at)
VALUES (mall.current_shop(), :event_id, :kind, :body ::jsonb, :now);

-- name: pieces
-- The lines of an order as far as goods move.
SELECT line, product_id, sku_id, quantity, shipped_quantity, dropped_quantity, refunded_quantity, refunded_fen, total_fen
FROM mall.order_line WHERE order_id = :order_id ORDER BY line;

-- name: release_limited
-- Pieces of a cancelled order no longer count against the quotas of limited-time prices.
WITH wanted AS (
    SELECT w.promotion_id, w.pieces FROM unnest(:promotions ::uuid[], :pieces ::integer[]) AS w (promotion_id, pieces)
), locked AS MATERIALIZED (
    SELECT l.promotion_id FROM mall.limited_price l JOIN wanted USING (promotion_id) ORDER BY l.promotion_id FOR UPDATE OF l
)
UPDATE mall.limited_price l SET sold = GREATEST(l.sold - w.pieces, 0)
FROM locked k JOIN wanted w USING (promotion_id) WHERE l.promotion_id = k.promotion_id;

-- name: return_coupon
-- The coupon of a cancelled order can be used again.
WITH free AS (
    UPDATE mall.coupon_claim SET order_id = NULL, used_at = NULL WHERE claim_id = :claim_id AND order_id = :order_id
    RETURNING shop_id, coupon_id
)
UPDATE mall.coupon c SET used = c.used - 1 FROM free f WHERE c.shop_id = f.shop_id AND c.coupon_id = f.coupon_id;

-- name: count_sold
-- Sold pieces of products, for lists by sales.
WITH wanted AS (
    SELECT w.product_id, w.pieces FROM unnest(:products ::uuid[], :pieces ::integer[]) AS w (product_id, pieces)
), locked AS MATERIALIZED (
    SELECT p.product_id FROM mall.product p JOIN wanted USING (product_id) ORDER BY p.product_id FOR NO KEY UPDATE OF p
)
UPDATE mall.product p SET sold = p.sold + w.pieces
FROM locked k JOIN wanted w USING (product_id) WHERE p.product_id = k.product_id;

-- name: member
-- A member, the points that an order has given him so far, and the rate of its time of payment.
SELECT c.customer_id, c.spent_fen, c.points, h.points_per_yuan, h.levels::text AS levels,
    COALESCE((SELECT sum(e.points) FROM mall.points_entry e WHERE e.shop_id = c.shop_id AND e.customer_id = c.customer_id AND e.order_id = :order_id), 0)::bigint AS settled,
    (SELECT (v.detail->>'points_per_100_yuan')::integer FROM mall.order_event v
     WHERE v.shop_id = c.shop_id AND v.order_id = :order_id AND v.event = 'pay' ORDER BY v.at LIMIT 1) AS rate
FROM mall.customer c JOIN mall.shop h USING (shop_id)
WHERE c.customer_id = :customer_id FOR NO KEY UPDATE OF c;

-- name: settle_member!
-- What a member has spent, his level and his points.
UPDATE mall.customer SET spent_fen = :spent_fen, level = :level, points = points + :points ::bigint WHERE customer_id = :customer_id;

-- name: points_entry!
-- Where points came from or went to.
INSERT INTO mall.points_entry (shop_id, entry_id, customer_id, points, reason, order_id, at)
VALUES (mall.current_shop(), :entry_id, :customer_id, :points, :reason, :order_id, :now);

-- name: shipment
-- A parcel; nothing where it was recorded before.
INSERT INTO mall.shipment (shop_id, shipment_id, order_id, carrier, tracking, lines, shipped_at)
VALUES (mall.current_shop(), :shipment_id, :order_id, :carrier, :tracking, :lines ::jsonb, :now)
ON CONFLICT DO NOTHING RETURNING shipment_id;

-- name: count_shipped!
-- How many pieces of the lines have left.
UPDATE mall.order_line l SET shipped_quantity = l.shipped_quantity + w.pieces
FROM unnest(:lines ::integer[], :pieces ::integer[]) AS w (line, pieces)
WHERE l.order_id = :order_id AND l.line = w.line;

-- name: close_payments!
-- Payments that were begun and are not wanted any more; one that comes nevertheless goes back.
UPDATE mall.payment SET status = 'closed' WHERE order_id = :order_id AND status = 'created';

-- name: open_refunds
-- Whether a refund is still to be decided or paid.
SELECT EXISTS (SELECT FROM mall.refund WHERE order_id = :order_id AND status NOT IN ('refused', 'withdrawn', 'succeeded')) AS open;

-- name: order
-- An order with all that happened to it, as one JSON.
SELECT to_json(x)::text AS found FROM (
    SELECT o.order_id, o.number, o.status, o.refund_status, o.customer_id, o.owner_id, o.buyer_name, o.buyer_phone, o.delivery, o.address,
        o.items_fen, o.discount_fen, o.shipping_fen, o.total_fen, o.paid_fen, o.refunded_fen, NULLIF(o.breakdown, '{}') AS breakdown, o.note,
        o.merchant_note, o.source, o.placed_at, o.pay_by, o.paid_at, o.shipped_at, o.received_at, o.closed_at, o.cancelled_at, o.cancel_reason, o.version,
        (SELECT COALESCE(json_agg(l ORDER BY l.line), '[]') FROM (
            SELECT line, product_id, sku_id, title, title_en, options, picture, list_fen, price_fen, quantity, discount_fen, total_fen,
                shipped_quantity, dropped_quantity, refunded_quantity, refunded_fen
            FROM mall.order_line WHERE shop_id = o.shop_id AND order_id = o.order_id) l) AS lines,
        (SELECT COALESCE(json_agg(e ORDER BY e.at, e.event_id), '[]') FROM (
            SELECT event_id, event, status, actor, detail, at FROM mall.order_event WHERE shop_id = o.shop_id AND order_id = o.order_id) e) AS events,
        (SELECT COALESCE(json_agg(s ORDER BY s.shipped_at, s.shipment_id), '[]') FROM (
            SELECT shipment_id, carrier, tracking, lines, shipped_at FROM mall.shipment WHERE shop_id = o.shop_id AND order_id = o.order_id) s) AS shipments
    FROM mall.orders o
    WHERE (o.order_id = :order_id ::uuid OR o.number = :number ::text) AND (:owner_id ::uuid IS NULL OR o.owner_id = :owner_id ::uuid)
) x;

-- name: lines
-- The lines of orders.
SELECT order_id, line, product_id, sku_id, title, title_en, options, picture, list_fen, price_fen, quantity, discount_fen, total_fen,
       shipped_quantity, dropped_quantity, refunded_quantity, refunded_fen
FROM mall.order_line WHERE order_id = ANY(:orders ::uuid[]) ORDER BY order_id, line;

-- name: page
-- Orders, newest first. `before_at` and `before_id`: the last one of the page before. `ids`: what a text found (fulfilment.sql, `found`).
SELECT order_id, number, status, refund_status, customer_id, owner_id, buyer_name, buyer_phone, delivery, total_fen, paid_fen, refunded_fen,
       placed_at, pay_by
FROM mall.orders
WHERE (:owner_id ::uuid IS NULL OR owner_id = :owner_id ::uuid)
  AND (:statuses ::text[] IS NULL OR status = ANY(:statuses ::text[]))
  AND (:since ::timestamptz IS NULL OR placed_at >= :since ::timestamptz)
  AND (:until ::timestamptz IS NULL OR placed_at < :until ::timestamptz)
  AND (:ids ::uuid[] IS NULL OR order_id = ANY(:ids ::uuid[]))
  AND (:before_at ::timestamptz IS NULL OR (placed_at, order_id) < (:before_at ::timestamptz, :before_id ::uuid))
ORDER BY placed_at DESC, order_id DESC LIMIT :most ::integer;

-- name: merchant_note
-- What the shop's people wrote about it.
UPDATE mall.orders SET merchant_note = :note, version = version + 1 WHERE order_id = :order_id RETURNING order_id;

-- name: to_expire
-- (as the platform's role) Orders of all shops whose time of payment is over.
SELECT shop_id, order_id, 'expire' AS what FROM mall.orders
WHERE status = 'pending_payment' AND pay_by <= :now ORDER BY pay_by LIMIT :most;

-- name: to_settle
-- (as the platform's role) Orders of all shops that are received, or closed, by the passing of time.
SELECT o.shop_id, o.order_id, 'receive' AS what FROM mall.orders o JOIN mall.shop h USING (shop_id)
WHERE o.status = 'shipped' AND o.shipped_at + h.receive_within_s * interval '1 second' <= :now
UNION ALL
SELECT o.shop_id, o.order_id, 'close' FROM mall.orders o
WHERE o.status = 'received' AND o.received_at <= :close_before
  AND NOT EXISTS (SELECT FROM mall.refund r WHERE r.shop_id = o.shop_id AND r.order_id = o.order_id AND r.status NOT IN ('refused', 'withdrawn', 'succeeded'))
LIMIT :most;
