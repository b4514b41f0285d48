-- name: plans
SELECT p.code, p.name_zh, p.name_en, p.month_fen, p.max_products, p.max_staff, p.rank, p.offered, p.max_pictures_mb,
    (SELECT count(*) FROM mall.directory d WHERE d.plan = p.code) AS shops
FROM mall.plan p ORDER BY p.rank, p.code;

-- name: set_plan!
INSERT INTO mall.plan (code, name_zh, name_en, month_fen, max_products, max_staff, rank, offered, max_pictures_mb)
VALUES (:code, :name_zh, :name_en, :month_fen, :max_products, :max_staff, :rank, :offered, :max_pictures_mb)
ON CONFLICT (code) DO UPDATE SET name_zh = excluded.name_zh, name_en = excluded.name_en, month_fen = excluded.month_fen,
    max_products = excluded.max_products, max_staff = excluded.max_staff, rank = excluded.rank, offered = excluded.offered,
    max_pictures_mb = excluded.max_pictures_mb;

-- name: industries
SELECT i.code, i.name_zh, i.name_en, i.margin_bp, (SELECT count(*) FROM mall.directory d WHERE d.industry = i.code) AS shops
FROM mall.industry i ORDER BY i.code;

-- name: set_industry!
INSERT INTO mall.industry (code, name_zh, name_en, margin_bp) VALUES (:code, :name_zh, :name_en, :margin_bp)
ON CONFLICT (code) DO UPDATE SET name_zh = excluded.name_zh, name_en = excluded.name_en, margin_bp = excluded.margin_bp;

-- name: hold
SELECT service_until FROM mall.directory WHERE shop_id = :shop_id FOR UPDATE;

-- name: add_subscription
INSERT INTO mall.subscription (shop_id, subscription_id, plan, starts_at, ends_at, paid_fen, created_at)
VALUES (:shop_id, :subscription_id, :plan, :starts_at, :starts_at + make_interval(months => :months), :paid_fen, :now)
ON CONFLICT (shop_id, subscription_id) DO NOTHING
RETURNING ends_at;

-- name: serve_until!
UPDATE mall.directory SET plan = :plan, service_until = :until WHERE shop_id = :shop_id;

-- name: subscriptions
SELECT subscription_id, plan, starts_at, ends_at, paid_fen, created_at
FROM mall.subscription WHERE shop_id = :shop_id ORDER BY starts_at DESC;

-- name: extensions
SELECT extension_key, days, reason, until_before, until_after, given_by, given_at
FROM mall.service_extension WHERE shop_id = :shop_id ORDER BY given_at DESC;

-- name: hold_all
-- Held by a statement of its own, so that the next one sees what another did while this one waited; in the order of the shops,
-- so that two batches at once do not lock each other out.
SELECT shop_id FROM mall.directory WHERE shop_id = ANY(:shop_ids) ORDER BY shop_id FOR UPDATE;

-- name: extend
-- One held shop's service goes on for so many days, once for each key; a shop whose service has ended is served from now on.
-- Says what stands under the key: of now or of before.
WITH held AS (
    SELECT shop_id, service_until FROM mall.directory WHERE shop_id = :shop_id
), given AS (
    INSERT INTO mall.service_extension (shop_id, extension_key, days, reason, until_before, until_after, given_by, given_at)
    SELECT shop_id, :key, :days, :reason, service_until, greatest(service_until, :now) + make_interval(days => :days), :given_by, :now
    FROM held
    ON CONFLICT (shop_id, extension_key) DO NOTHING
    RETURNING shop_id, days, until_after
), served AS (
    UPDATE mall.directory d SET service_until = given.until_after FROM given WHERE d.shop_id = given.shop_id
)
SELECT h.shop_id, g.shop_id IS NOT NULL AS now_given, coalesce(g.days, e.days) AS days, coalesce(g.until_after, e.until_after) AS until
FROM held h
LEFT JOIN given g USING (shop_id)
LEFT JOIN mall.service_extension e ON e.shop_id = h.shop_id AND e.extension_key = :key;
