-- name: answered
-- What was answered when the key was used.
SELECT request_hash, answer::text AS answer FROM mall.idempotency WHERE scope = :scope AND key = :key;

-- name: begin
-- The first statement of a write: `claimed` says whether the key is ours, or was used before. `taken`: which of the order numbers
-- are somebody's already. `unpaid_…`: orders that wait for payment, counted up to the limits.
WITH claimed AS (
    INSERT INTO mall.idempotency (shop_id, scope, key, request_hash, answer, created_at)
    SELECT mall.current_shop(), :scope ::text, :key ::text, :request_hash ::bytea, :answer ::jsonb, :now ::timestamptz WHERE :key ::text IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING key
)
SELECT EXISTS (SELECT FROM claimed) AS claimed,
    ARRAY(SELECT o.number FROM mall.orders o WHERE o.number = ANY(:numbers ::text[])) AS taken,
    (SELECT count(*) FROM (SELECT FROM mall.orders o WHERE o.owner_id = :owner_id ::uuid AND o.status = 'pending_payment'
        LIMIT :most_of_owner ::integer) AS unpaid) AS unpaid_of_owner,
    (SELECT count(*) FROM (SELECT FROM mall.orders o WHERE o.placed_from = :placed_from ::bytea AND o.status = 'pending_payment'
        LIMIT :most_from_there ::integer) AS unpaid) AS unpaid_from_there;

-- name: offer
-- What is asked for, as it is offered now (a row of `goods` for each SKU that the shop has), and what the shop promises, to whom.
SELECT h.pay_within_s, h.receive_within_s, h.points_per_yuan, h.levels::text AS levels,
    (SELECT d.status FROM mall.directory d WHERE d.shop_id = h.shop_id) AS shop_status,
    (SELECT json_agg(json_build_object('sku_id', k.sku_id, 'product_id', k.product_id, 'price_fen', k.price_fen, 'weight_g', k.weight_g,
        'options', k.options, 'on_sale', k.active AND p.status = 'on_sale', 'title', p.title, 'title_en', p.title_en, 'picture', p.pictures[1],
        'free', COALESCE(s.on_hand - s.reserved, 0), 'shipping_id', f.shipping_id, 'shipping_name', f.name, 'shipping_rules', f.rules::text,
        'categories', ARRAY(SELECT c.category_id FROM mall.product_category c WHERE c.shop_id = k.shop_id AND c.product_id = k.product_id)))
     FROM mall.sku k
     JOIN mall.product p USING (shop_id, product_id)
     LEFT JOIN mall.stock s USING (shop_id, sku_id)
     LEFT JOIN mall.shipping f ON f.shop_id = k.shop_id
          AND f.shipping_id = COALESCE(p.shipping_id, (SELECT d.shipping_id FROM mall.shipping d WHERE d.shop_id = k.shop_id AND d.is_default))
     WHERE k.shop_id = h.shop_id AND k.sku_id = ANY(:skus ::uuid[]))::text AS goods,
    (SELECT c.level FROM mall.customer c WHERE c.shop_id = h.shop_id AND c.customer_id = :customer_id ::uuid) AS level,
    (SELECT json_agg(json_build_object('promotion_id', l.promotion_id, 'name', l.name, 'sku_id', l.sku_id, 'price_fen', l.price_fen,
        'quota', l.quota, 'sold', l.sold, 'per_customer', l.per_customer, 'starts_at', l.starts_at, 'ends_at', l.ends_at))
     FROM mall.limited_price l
     WHERE l.shop_id = h.shop_id AND l.sku_id = ANY(:skus ::uuid[]) AND l.stopped_at IS NULL AND :now ::timestamptz >= l.starts_at AND :now ::timestamptz < l.ends_at)::text AS limited,
    (SELECT json_agg(json_build_object('promotion_id', r.promotion_id, 'name', r.name, 'tiers', r.tiers, 'scope', r.scope,
        'starts_at', r.starts_at, 'ends_at', r.ends_at))
     FROM mall.full_reduction r
     WHERE r.shop_id = h.shop_id AND r.stopped_at IS NULL AND :now ::timestamptz >= r.starts_at AND :now ::timestamptz < r.ends_at)::text AS reductions
FROM mall.shop h;

-- name: coupon
-- A coupon that somebody took.
SELECT json_build_object('claim_id', m.claim_id, 'owner_id', m.owner_id, 'order_id', m.order_id, 'coupon_id', c.coupon_id, 'name', c.name,
    'amount_fen', c.amount_fen, 'percent_bp', c.percent_bp, 'cap_fen', c.cap_fen, 'threshold_fen', c.threshold_fen, 'scope', c.scope,
    'starts_at', c.starts_at, 'ends_at', c.ends_at)::text AS coupon
FROM mall.coupon_claim m JOIN mall.coupon c USING (shop_id, coupon_id) WHERE m.claim_id = :claim_id ::uuid;

-- name: one_at_a_time
-- Orders of one shopper with prices that are limited for each customer wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended(:owner_id ::text, 4));

-- name: bought
-- Pieces that the shopper had by these limited-time prices, cancelled orders aside.
SELECT (u->>'promotion_id')::uuid AS promotion_id, sum((u->>'quantity')::integer)::integer AS pieces
FROM mall.orders o, jsonb_array_elements(o.breakdown->'lines') l, jsonb_array_elements(l->'limited') u
WHERE o.owner_id = :owner_id AND o.status <> 'cancelled' AND u->>'promotion_id' = ANY(:promotions ::text[])
GROUP BY 1;

-- name: use_limited
-- Counts pieces against the quotas of limited-time prices; no row for one that has not so many left.
WITH wanted AS (
    SELECT w.promotion_id, w.pieces FROM unnest(:promotions ::uuid[], :pieces ::integer[]) AS w (promotion_id, pieces)
), locked AS MATERIALIZED (
    SELECT l.promotion_id FROM mall.limited_price l JOIN wanted USING (promotion_id) ORDER BY l.promotion_id FOR UPDATE OF l
)
UPDATE mall.limited_price l SET sold = l.sold + w.pieces
FROM locked k JOIN wanted w USING (promotion_id)
WHERE l.promotion_id = k.promotion_id AND (l.quota IS NULL OR l.sold + w.pieces <= l.quota)
RETURNING l.promotion_id;

-- name: use_coupon
-- The claim belongs to this order; no row where another order was faster.
WITH used AS (
    UPDATE mall.coupon_claim SET order_id = :order_id, used_at = :now
    WHERE claim_id = :claim_id AND owner_id = ANY(:owners ::uuid[]) AND order_id IS NULL
    RETURNING shop_id, coupon_id
)
UPDATE mall.coupon c SET used = c.used + 1 FROM used u WHERE c.shop_id = u.shop_id AND c.coupon_id = u.coupon_id
RETURNING c.coupon_id;

-- name: record
-- The order with all that belongs to it, its goods out of the cart and out of the free stock: one statement, whole or not at all.
-- Stock as in stock.sql (`change`): rows locked in the order of their SKUs; fewer SKUs returned than asked, someone was short. With
-- `whole` that is an error instead, of the table's CHECK (a SKU that has no stock at all: a movement without a shop). With `paid` it
-- is paid by what is written along with it (then `told` says so, not `step`): its goods are sold and were never reserved.
WITH placed AS (
    INSERT INTO mall.orders (shop_id, order_id, number, status, customer_id, owner_id, buyer_name, buyer_phone, delivery, address,
        items_fen, discount_fen, shipping_fen, total_fen, breakdown, coupon_claim_id, note, source, placed_from, placed_at, pay_by, paid_fen, paid_at)
    VALUES (mall.current_shop(), :order_id, :number, CASE WHEN :paid ::boolean THEN 'paid' ELSE 'pending_payment' END, :customer_id, :owner_id, :buyer_name, :buyer_phone, :delivery, :address ::jsonb,
        :items_fen, :discount_fen, :shipping_fen, :total_fen, :breakdown ::jsonb, :claim_id, :note, :source, :placed_from, :now, :pay_by,
        CASE WHEN :paid ::boolean THEN :total_fen ELSE 0 END, CASE WHEN :paid ::boolean THEN :now ::timestamptz END)
), lines AS (
    INSERT INTO mall.order_line (shop_id, order_id, line, product_id, sku_id, title, title_en, options, picture, list_fen, price_fen,
        quantity, discount_fen, total_fen, limited_price_id)
    SELECT mall.current_shop(), :order_id, l.line, l.product_id, l.sku_id, l.title, l.title_en, COALESCE(l.options, '{}'), l.picture, l.list_fen, l.price_fen,
        l.quantity, l.discount_fen, l.total_fen, l.limited_price_id
    FROM json_to_recordset(:lines ::json) AS l (line integer, product_id uuid, sku_id uuid, title text, title_en text, options text[],
        picture text, list_fen bigint, price_fen bigint, quantity integer, discount_fen bigint, total_fen bigint, limited_price_id uuid)
), event AS (
    INSERT INTO mall.order_event (shop_id, order_id, event_id, event, status, actor, at)
    VALUES (mall.current_shop(), :order_id, :event_id, 'place', 'pending_payment', :actor, :now)
), out AS (
    INSERT INTO mall.outbox (shop_id, event_id, kind, body, created_at)
    VALUES (mall.current_shop(), :event_id, :kind, :body ::jsonb, :now)
), emptied AS (
    DELETE FROM mall.cart_line WHERE owner_id = :owner_id AND sku_id = ANY(:skus ::uuid[])
), wanted AS (
    SELECT w.sku_id, CASE WHEN :paid ::boolean THEN w.pieces ELSE 0 END AS sold, CASE WHEN :paid ::boolean THEN 0 ELSE w.pieces END AS reserved, w.movement_id
    FROM unnest(:skus ::uuid[], :pieces ::integer[], :movements ::uuid[]) AS w (sku_id, pieces, movement_id)
), locked AS MATERIALIZED (
    SELECT s.sku_id FROM mall.stock s JOIN wanted w USING (sku_id) ORDER BY s.sku_id FOR UPDATE OF s
), changed AS (
    UPDATE mall.stock s SET on_hand = s.on_hand - w.sold, reserved = s.reserved + w.reserved
    FROM locked l JOIN wanted w USING (sku_id)
    WHERE s.sku_id = l.sku_id AND (:whole ::boolean OR s.on_hand - w.sold >= s.reserved + w.reserved)
    RETURNING s.shop_id, s.sku_id
)
INSERT INTO mall.stock_movement (shop_id, movement_id, sku_id, kind, on_hand, reserved, order_id, actor, reason, at)
SELECT c.shop_id, w.movement_id, w.sku_id, CASE WHEN :paid ::boolean THEN 'sell' ELSE 'reserve' END, - w.sold, w.reserved, :order_id ::uuid, :actor ::text, '', :now ::timestamptz
FROM wanted w LEFT JOIN changed c USING (sku_id)
WHERE c.shop_id IS NOT NULL OR :whole ::boolean
RETURNING sku_id;
