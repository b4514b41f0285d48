-- name: all_of
-- The default first. `used`: products that are sent by it.
SELECT f.shipping_id, f.name, f.rules::text AS rules, f.is_default,
    (SELECT count(*) FROM mall.product p WHERE p.shop_id = f.shop_id AND p.shipping_id = f.shipping_id AND p.status <> 'archived')::integer AS used
FROM mall.shipping f WHERE f.archived_at IS NULL ORDER BY NOT f.is_default, f.name, f.shipping_id;

-- name: one
SELECT f.shipping_id, f.name, f.rules::text AS rules, f.is_default,
    (SELECT count(*) FROM mall.product p WHERE p.shop_id = f.shop_id AND p.shipping_id = f.shipping_id AND p.status <> 'archived')::integer AS used
FROM mall.shipping f WHERE f.shipping_id = :shipping_id AND f.archived_at IS NULL;

-- name: one_at_a_time
-- There is one default: whoever changes which waits for the other.
SELECT pg_advisory_xact_lock(hashtextextended('mall.shipping ' || mall.current_shop()::text, 0));

-- name: add!
INSERT INTO mall.shipping (shop_id, shipping_id, name, rules, is_default)
VALUES (mall.current_shop(), :shipping_id, :name, :rules ::jsonb, NOT EXISTS (SELECT FROM mall.shipping WHERE is_default));

-- name: change
UPDATE mall.shipping SET name = :name, rules = :rules ::jsonb WHERE shipping_id = :shipping_id AND archived_at IS NULL RETURNING shipping_id;

-- name: no_default!
UPDATE mall.shipping SET is_default = false WHERE is_default;

-- name: make_default!
UPDATE mall.shipping SET is_default = true WHERE shipping_id = :shipping_id;

-- name: archive!
UPDATE mall.shipping SET archived_at = :now WHERE shipping_id = :shipping_id AND NOT is_default;
