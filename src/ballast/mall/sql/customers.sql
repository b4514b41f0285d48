-- name: page
-- Customers that are looked for. What they are sorted by goes down, then their id; key and before are those of the last one of the page before.
SELECT c.customer_id, c.name, c.phone, c.email, c.level, c.points, c.spent_fen, c.disabled_at, c.created_at, f.key,
       (SELECT count(*) FROM mall.orders o WHERE o.shop_id = c.shop_id AND o.customer_id = c.customer_id) AS orders
FROM mall.customer c
CROSS JOIN LATERAL (SELECT CASE :sort ::text WHEN 'spent' THEN c.spent_fen WHEN 'points' THEN c.points ELSE 0 END AS key) f
WHERE (:text ::text IS NULL OR c.phone = :text ::text OR strpos(lower(c.email), :text ::text) > 0 OR strpos(lower(c.name), :text ::text) > 0)
  AND (:level ::integer IS NULL OR c.level = :level ::integer)
  AND (:before ::uuid IS NULL OR (f.key, c.customer_id) < (:before_key ::bigint, :before ::uuid))
ORDER BY f.key DESC, c.customer_id DESC LIMIT :most ::integer;

-- name: one
-- A customer, with what his orders come to.
SELECT c.customer_id, c.name, c.phone, c.email, c.level, c.points, c.spent_fen, c.note, c.disabled_at, c.created_at,
       (SELECT count(*) FROM mall.orders o WHERE o.shop_id = c.shop_id AND o.customer_id = c.customer_id) AS orders
FROM mall.customer c WHERE c.customer_id = :customer_id;

-- name: levels
-- What levels the shop has.
SELECT levels::text AS levels FROM mall.shop;

-- name: addresses
-- Where he has things sent.
SELECT name, phone, province, city, district, street, is_default FROM mall.address WHERE customer_id = :customer_id ORDER BY is_default DESC, address_id;

-- name: points
-- Where his points came from and went to, newest first.
SELECT e.entry_id, e.points, e.reason, e.order_id, o.number, e.at FROM mall.points_entry e
LEFT JOIN mall.orders o ON o.shop_id = e.shop_id AND o.order_id = e.order_id
WHERE e.customer_id = :customer_id ORDER BY e.at DESC, e.entry_id DESC LIMIT :most ::integer;

-- name: hold
-- Nobody else changes his points until this transaction ends.
SELECT points FROM mall.customer WHERE customer_id = :customer_id FOR NO KEY UPDATE;

-- name: add_points
-- Points by hand; nothing where the entry is there already.
INSERT INTO mall.points_entry (shop_id, entry_id, customer_id, points, reason, at)
VALUES (mall.current_shop(), :entry_id, :customer_id, :points, :reason, :now)
ON CONFLICT DO NOTHING RETURNING entry_id;

-- name: count_points!
-- … and so many he has.
UPDATE mall.customer SET points = points + :points ::bigint WHERE customer_id = :customer_id;

-- name: note
-- What the shop's people write about him.
UPDATE mall.customer SET note = :note WHERE customer_id = :customer_id RETURNING customer_id;
