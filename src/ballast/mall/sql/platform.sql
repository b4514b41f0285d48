-- name: add_to_directory
INSERT INTO mall.directory (shop_id, slug, name, industry, plan, service_until, opened_at)
VALUES (:shop_id, :slug, :name, :industry, :plan, :service_until, :opened_at)
ON CONFLICT (slug) DO NOTHING
RETURNING shop_id;

-- name: add_shop!
INSERT INTO mall.shop (shop_id, name, name_en, language, intro, intro_en, service_phone, pickup_address, theme_colour, points_per_yuan,
    created_at, updated_at)
VALUES (:shop_id, :name, :name_en, :language, :intro, :intro_en, :service_phone, :pickup_address, :theme_colour, :points_per_yuan,
    :opened_at, :now);

-- name: add_owner!
INSERT INTO mall.staff (shop_id, account_id, role, created_at) VALUES (:shop_id, :owner, 'owner', :now);

-- name: add_shipping!
INSERT INTO mall.shipping (shop_id, shipping_id, name, rules, is_default)
VALUES (:shop_id, :shipping_id, :name, :rules::jsonb, true);

-- name: add_home_page!
INSERT INTO mall.page (shop_id, page_id, slug, title, title_en, draft, published, published_at, updated_at)
VALUES (:shop_id, :page_id, '', :title, :title_en, :blocks::jsonb, :blocks::jsonb, :now, :now);

-- name: add_host
INSERT INTO mall.hostname (host, shop_id) VALUES (:host, :shop_id)
ON CONFLICT (host) DO NOTHING
RETURNING host;

-- name: remove_host
DELETE FROM mall.hostname WHERE host = :host AND shop_id = :shop_id RETURNING host;

-- name: hosts
SELECT host FROM mall.hostname WHERE shop_id = :shop_id ORDER BY host;

-- name: one
SELECT d.shop_id, d.slug, d.name, d.status, coalesce(d.status_reason, '') AS status_reason, d.industry, d.plan,
    d.service_until, d.closing_at, d.opened_at
FROM mall.directory d WHERE d.shop_id = :shop_id;

-- name: hold
SELECT status FROM mall.directory WHERE shop_id = :shop_id FOR UPDATE;

-- name: move!
UPDATE mall.directory SET status = :status, status_reason = :reason, closing_at = :closing_at WHERE shop_id = :shop_id;

-- name: close_due
-- Grace periods that are over. Nothing else of the shop changes.
UPDATE mall.directory SET status = 'closed' WHERE status = 'closing' AND closing_at <= :now
RETURNING shop_id;

-- name: set_industry
UPDATE mall.directory SET industry = :industry WHERE shop_id = :shop_id RETURNING shop_id;

-- name: found
-- Shops by a part of their name, slug or host, or by their id, with what they are filtered by.
SELECT d.shop_id, d.slug, d.name, d.status, coalesce(d.status_reason, '') AS status_reason, d.industry, d.plan,
    d.service_until, d.closing_at, d.opened_at, count(*) OVER () AS matching
FROM mall.directory d
WHERE (:like::text = '' OR d.slug LIKE :like OR lower(d.name) LIKE :like OR d.shop_id::text = :exact
        OR EXISTS (SELECT FROM mall.hostname h WHERE h.shop_id = d.shop_id AND h.host LIKE :like))
    AND (:status::text = '' OR d.status = :status)
    AND (:plan::text = '' OR d.plan = :plan)
    AND (:industry::text = '' OR d.industry = :industry)
    AND (:until::timestamptz IS NULL OR d.service_until <= :until)
ORDER BY d.opened_at DESC, d.shop_id
LIMIT :most OFFSET :skipped;

-- name: orders_by_number
-- One look into each shop's index of order numbers.
SELECT d.shop_id, d.slug, d.name, o.order_id, o.number, o.status, o.total_fen, o.placed_at
FROM mall.directory d
CROSS JOIN LATERAL (
    SELECT order_id, number, status, total_fen, placed_at FROM mall.orders WHERE shop_id = d.shop_id AND number = :number LIMIT 1
) o
LIMIT 20;

-- name: accounts
-- Operators, or every account whose login or name has a part.
SELECT account_id, login, name, operator, disabled_at, created_at
FROM mall.account
WHERE (:like::text = '' AND operator) OR (:like <> '' AND (login LIKE :like OR lower(name) LIKE :like))
ORDER BY operator DESC, login
LIMIT 50;

-- name: hold_operators
SELECT pg_advisory_xact_lock(hashtextextended('mall.operators', 0));

-- name: account
SELECT account_id, login, name, operator, disabled_at, created_at FROM mall.account WHERE account_id = :account_id;

-- name: other_operators
SELECT count(*) AS operators FROM mall.account WHERE operator AND disabled_at IS NULL AND account_id <> :account_id;

-- name: set_disabled!
UPDATE mall.account SET disabled_at = :disabled_at WHERE account_id = :account_id;

-- name: set_operator!
UPDATE mall.account SET operator = :operator WHERE account_id = :account_id;
