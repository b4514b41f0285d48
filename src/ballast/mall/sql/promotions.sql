-- name: coupons
-- The shop's coupons, newest first, before one that was seen already.
SELECT coupon_id, name, name_en, code, kind, amount_fen, percent_bp, cap_fen, threshold_fen, scope::text AS scope, per_customer, stock, claimed,
    used, starts_at, ends_at, stopped_at
FROM mall.coupon
WHERE :before ::uuid IS NULL OR coupon_id < :before
ORDER BY coupon_id DESC LIMIT :most;

-- name: coupon
-- One of them, until the transaction's end nobody else's to change or to take.
SELECT coupon_id, name, name_en, code, kind, amount_fen, percent_bp, cap_fen, threshold_fen, scope::text AS scope, per_customer, stock, claimed,
    used, starts_at, ends_at, stopped_at
FROM mall.coupon WHERE coupon_id = :coupon_id FOR UPDATE;

-- name: add_coupon
-- A new one; no row where its code is another's.
INSERT INTO mall.coupon (shop_id, coupon_id, name, name_en, code, kind, amount_fen, percent_bp, cap_fen, threshold_fen, scope, per_customer,
    stock, starts_at, ends_at)
VALUES (mall.current_shop(), :coupon_id, :name, :name_en, :code, :kind, :amount_fen, :percent_bp, :cap_fen, :threshold_fen, :scope ::jsonb,
    :per_customer, :stock, :starts_at, :ends_at)
ON CONFLICT DO NOTHING RETURNING coupon_id;

-- name: change_coupon!
-- What may be changed of a promise that was given: how it is called, how many there are, how long it holds.
UPDATE mall.coupon SET name = :name, name_en = :name_en, per_customer = :per_customer, stock = :stock, ends_at = :ends_at
WHERE coupon_id = :coupon_id;

-- name: stop_coupon
UPDATE mall.coupon SET stopped_at = :stopped_at WHERE coupon_id = :id RETURNING name;

-- name: reductions
SELECT promotion_id, name, name_en, tiers::text AS tiers, scope::text AS scope, starts_at, ends_at, stopped_at
FROM mall.full_reduction
WHERE :before ::uuid IS NULL OR promotion_id < :before
ORDER BY promotion_id DESC LIMIT :most;

-- name: running_reductions
-- What shoppers are told of.
SELECT promotion_id, name, name_en, tiers::text AS tiers, scope::text AS scope, starts_at, ends_at, stopped_at
FROM mall.full_reduction WHERE stopped_at IS NULL AND starts_at <= :now AND ends_at > :now ORDER BY ends_at, promotion_id LIMIT 20;

-- name: add_reduction!
INSERT INTO mall.full_reduction (shop_id, promotion_id, name, name_en, tiers, scope, starts_at, ends_at)
VALUES (mall.current_shop(), :promotion_id, :name, :name_en, :tiers ::jsonb, :scope ::jsonb, :starts_at, :ends_at);

-- name: stop_reduction
UPDATE mall.full_reduction SET stopped_at = :stopped_at WHERE promotion_id = :id RETURNING name;

-- name: limited_prices
SELECT l.promotion_id, l.sku_id, l.name, l.name_en, l.price_fen, l.quota, l.sold, l.per_customer, l.starts_at, l.ends_at, l.stopped_at,
    k.product_id, p.title, p.title_en, k.options, k.price_fen AS list_fen
FROM mall.limited_price l JOIN mall.sku k USING (shop_id, sku_id) JOIN mall.product p USING (shop_id, product_id)
WHERE :before ::uuid IS NULL OR l.promotion_id < :before
ORDER BY l.promotion_id DESC LIMIT :most;

-- name: one_limited_at_a_time
-- Whoever makes limited-time prices waits for the other: none overlaps another unseen.
SELECT pg_advisory_xact_lock(hashtextextended('mall.limited_price ' || mall.current_shop()::text, 0));

-- name: limited_price
SELECT promotion_id, sku_id, name, starts_at, ends_at FROM mall.limited_price WHERE promotion_id = :promotion_id;

-- name: list_prices
-- What these SKUs cost, and what they are called.
SELECT k.sku_id, k.price_fen, p.title, p.title_en, k.options FROM mall.sku k JOIN mall.product p USING (shop_id, product_id)
WHERE k.sku_id = ANY(:skus ::uuid[]) AND k.active AND p.status <> 'archived';

-- name: overlapping
-- Limited-time prices of these SKUs that hold at some time of this period.
SELECT l.promotion_id, l.sku_id, l.name, l.starts_at, l.ends_at, p.title, k.options
FROM mall.limited_price l JOIN mall.sku k USING (shop_id, sku_id) JOIN mall.product p USING (shop_id, product_id)
WHERE l.sku_id = ANY(:skus ::uuid[]) AND l.stopped_at IS NULL AND l.starts_at < :ends_at AND l.ends_at > :starts_at
    AND l.promotion_id <> ALL(:but ::uuid[])
ORDER BY l.starts_at LIMIT 10;

-- name: add_limited!
INSERT INTO mall.limited_price (shop_id, promotion_id, sku_id, name, name_en, price_fen, quota, per_customer, starts_at, ends_at)
VALUES (mall.current_shop(), :promotion_id, :sku_id, :name, :name_en, :price_fen, :quota, :per_customer, :starts_at, :ends_at);

-- name: stop_limited
UPDATE mall.limited_price SET stopped_at = :stopped_at WHERE promotion_id = :id RETURNING name;

-- name: known
-- Which of these products and categories the shop has.
SELECT ARRAY(SELECT product_id FROM mall.product WHERE product_id = ANY(:products ::uuid[])) AS products,
    ARRAY(SELECT category_id FROM mall.category WHERE category_id = ANY(:categories ::uuid[])) AS categories;
