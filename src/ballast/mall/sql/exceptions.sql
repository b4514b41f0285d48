-- name: keep
-- One more; no row where an order is kept apart already.
INSERT INTO mall.exception (shop_id, exception_id, kind, order_id, owner_id, customer_id, reason, params, kept_at)
VALUES (mall.current_shop(), :exception_id, :kind, :order_id, :owner_id, :customer_id, :reason, :params ::jsonb, :now)
ON CONFLICT DO NOTHING RETURNING exception_id;

-- name: add_deed!
-- A deed of it, behind those that are there; one that is there already is not added again.
INSERT INTO mall.exception_deed (shop_id, exception_id, number, key, kind, payload, at)
SELECT mall.current_shop(), :exception_id ::uuid, COALESCE(max(d.number), 0) + 1, :key ::text, :kind ::text, :payload ::jsonb, :now ::timestamptz
FROM mall.exception_deed d WHERE d.exception_id = :exception_id ::uuid
ON CONFLICT (shop_id, key) DO NOTHING;

-- name: of_deed
-- The exception that this deed is kept with already, until the transaction's end nobody else's to settle.
SELECT e.exception_id, e.settled_at IS NULL AS is_open, d.number = 1 AS is_first
FROM mall.exception_deed d JOIN mall.exception e USING (shop_id, exception_id) WHERE d.key = :key FOR UPDATE OF e;

-- name: open_of_order
-- The open exception of an order, until the transaction's end nobody else's to settle.
SELECT exception_id FROM mall.exception
WHERE order_id = :order_id AND kind IN ('checkout', 'payment_begun', 'callback') AND settled_at IS NULL FOR UPDATE;

-- name: open_of_payment
-- … of the order of a payment that was begun with this provider.
SELECT e.exception_id, e.order_id FROM mall.exception_deed d JOIN mall.exception e USING (shop_id, exception_id)
WHERE d.kind = 'payment_begun' AND d.payload->>'payment_id' = :payment_id ::text AND d.payload->>'provider' = :provider ::text
  AND e.settled_at IS NULL FOR UPDATE OF e;

-- name: lock
-- One of them, held.
SELECT exception_id FROM mall.exception WHERE exception_id = :exception_id FOR UPDATE;

-- name: page
-- Exceptions with their deeds, the newest first: open or settled ones, of one shopper, of one order, or just one.
SELECT e.exception_id, e.kind, e.order_id, e.owner_id, e.customer_id, e.reason, e.params::text AS params, e.kept_at, e.settled_at, e.settled_by,
    e.remedy, e.answer,
    (SELECT json_agg(json_build_object('key', d.key, 'kind', d.kind, 'payload', d.payload, 'at', d.at) ORDER BY d.number)
     FROM mall.exception_deed d WHERE d.shop_id = e.shop_id AND d.exception_id = e.exception_id)::text AS deeds
FROM mall.exception e
WHERE (:settled ::boolean IS NULL OR (e.settled_at IS NOT NULL) = :settled ::boolean)
  AND (:exception_id ::uuid IS NULL OR e.exception_id = :exception_id ::uuid)
  AND (:order_id ::uuid IS NULL OR e.order_id = :order_id ::uuid)
  AND (:owner_id ::uuid IS NULL OR e.owner_id = :owner_id ::uuid)
  AND (:orders ::boolean IS NULL OR (e.kind IN ('checkout', 'payment_begun', 'callback')) = :orders ::boolean)
  AND (:before_at ::timestamptz IS NULL OR (e.kept_at, e.exception_id) < (:before_at ::timestamptz, :before_id ::uuid))
ORDER BY e.kept_at DESC, e.exception_id DESC LIMIT :most ::integer;

-- name: counts
-- How many are open and settled, each counted up to `most`.
SELECT (SELECT count(*) FROM (SELECT FROM mall.exception WHERE settled_at IS NULL LIMIT :most ::integer) AS capped) AS open,
    (SELECT count(*) FROM (SELECT FROM mall.exception WHERE settled_at IS NOT NULL LIMIT :most ::integer) AS capped) AS settled;

-- name: settle!
-- What was done about it.
UPDATE mall.exception SET settled_at = :now, settled_by = :actor, remedy = :remedy, answer = :answer WHERE exception_id = :exception_id;

-- name: adopt!
-- What a guest ordered is the member's.
UPDATE mall.exception SET owner_id = :member, customer_id = :member WHERE owner_id = :guest;

-- name: pay_within
-- So long an order waits for its payment.
SELECT pay_within_s FROM mall.shop;

-- name: numbers_taken
-- Which of these order numbers are somebody's.
SELECT number FROM mall.orders WHERE number = ANY(:numbers ::text[]);

-- name: is_customer
-- Whether the shop has him.
SELECT customer_id FROM mall.customer WHERE customer_id = :customer_id;

-- name: goods
-- SKUs as they are offered now, for who chooses others in the place of what was ordered.
SELECT k.sku_id, k.product_id, p.title, p.title_en, k.options, p.pictures[1] AS picture, k.price_fen,
    COALESCE(s.on_hand - s.reserved, 0) AS free, k.active AND p.status = 'on_sale' AS on_sale
FROM mall.sku k JOIN mall.product p USING (shop_id, product_id) LEFT JOIN mall.stock s USING (shop_id, sku_id)
WHERE k.sku_id = ANY(:skus ::uuid[]);

-- name: in_place_of
-- SKUs that could be sent instead: of the same product first, then of the whole shop, the dearest that is not dearer first.
SELECT k.sku_id, k.product_id, p.title, p.title_en, k.options, p.pictures[1] AS picture, k.price_fen, s.on_hand - s.reserved AS free, true AS on_sale
FROM mall.sku k JOIN mall.product p USING (shop_id, product_id) JOIN mall.stock s USING (shop_id, sku_id)
WHERE k.active AND p.status = 'on_sale' AND s.on_hand - s.reserved >= :quantity ::integer AND k.price_fen <= :most_fen ::bigint
  AND k.price_fen >= :least_fen ::bigint AND k.sku_id <> :sku_id ::uuid
ORDER BY k.product_id = :product_id ::uuid DESC, k.price_fen DESC, k.sku_id LIMIT :most ::integer;

-- name: record_cancelled!
-- An order that the shop could not keep, as it was accepted: cancelled, its lines, its two events, and what goes out about it.
WITH placed AS (
    INSERT INTO mall.orders (shop_id, order_id, number, status, customer_id, owner_id, buyer_name, buyer_phone, delivery, address,
        items_fen, discount_fen, shipping_fen, total_fen, breakdown, note, source, placed_at, pay_by, cancelled_at, cancel_reason)
    VALUES (mall.current_shop(), :order_id, :number, 'cancelled', :customer_id, :owner_id, :buyer_name, :buyer_phone, :delivery, :address ::jsonb,
        :items_fen, :discount_fen, :shipping_fen, :total_fen, :breakdown ::jsonb, :note, :source, :now, :pay_by, :cancelled_at, :reason)
), lines AS (
    INSERT INTO mall.order_line (shop_id, order_id, line, product_id, sku_id, title, title_en, options, picture, list_fen, price_fen,
        quantity, discount_fen, total_fen)
    SELECT mall.current_shop(), :order_id, l.line, l.product_id, k.sku_id, l.title, l.title_en, COALESCE(l.options, '{}'), l.picture, l.list_fen,
        l.price_fen, l.quantity, l.discount_fen, l.total_fen
    FROM json_to_recordset(:lines ::json) AS l (line integer, product_id uuid, sku_id uuid, title text, title_en text, options text[],
        picture text, list_fen bigint, price_fen bigint, quantity integer, discount_fen bigint, total_fen bigint)
    LEFT JOIN mall.sku k ON k.sku_id = l.sku_id
), events AS (
    INSERT INTO mall.order_event (shop_id, order_id, event_id, event, status, actor, detail, at)
    VALUES (mall.current_shop(), :order_id, :placed_event_id, 'place', 'pending_payment', :actor, '{}', :now),
        (mall.current_shop(), :order_id, :event_id, 'cancel_by_merchant', 'cancelled', :canceller, :detail ::jsonb, :cancelled_at)
)
INSERT INTO mall.outbox (shop_id, event_id, kind, body, created_at)
VALUES (mall.current_shop(), :event_id, :kind, :body ::jsonb, :cancelled_at);
