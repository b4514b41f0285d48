-- name: shops
-- Which shops there are, by their slugs.
SELECT slug, shop_id FROM mall.directory WHERE slug = ANY(:slugs ::text[]);

-- name: one_at_a_time
-- Two imports into one shop wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('mall.imports ' || mall.current_shop()::text, 0));

-- name: shelf
-- The shop of this transaction: room for products, and where the next one stands.
SELECT d.opened_at, p.max_products,
    (SELECT count(*) FROM mall.product WHERE status <> 'archived')::integer AS products,
    COALESCE((SELECT max(position) FROM mall.product), 0) AS position
FROM mall.directory d JOIN mall.plan p ON p.code = d.plan
WHERE d.shop_id = mall.current_shop();

-- name: products_there
-- Products by their codes, a row for each SKU.
SELECT p.external_code, p.product_id, k.options
FROM mall.product p LEFT JOIN mall.sku k USING (shop_id, product_id)
WHERE p.external_code = ANY(:codes ::text[]);

-- name: categories
-- All categories.
SELECT category_id, parent_id, name FROM mall.category;

-- name: orders_there
-- Orders by their codes.
SELECT o.external_code, o.items_fen,
    (SELECT count(*) FROM mall.order_line l WHERE l.shop_id = o.shop_id AND l.order_id = o.order_id)::integer AS lines
FROM mall.orders o WHERE o.external_code = ANY(:codes ::text[]);

-- name: numbers_taken
-- Which of these order numbers are somebody's.
SELECT number FROM mall.orders WHERE number = ANY(:numbers ::text[]);

-- name: goods
-- Products by their codes and SKUs by theirs, for the lines of orders.
SELECT p.external_code, p.product_id, p.title, p.title_en, p.pictures[1] AS picture, k.sku_id, k.code, k.options
FROM mall.product p JOIN mall.sku k USING (shop_id, product_id)
WHERE p.external_code = ANY(:codes ::text[])
ORDER BY p.external_code, k.position;

-- name: members
-- Customers by what they are known by.
SELECT customer_id, external_code, phone, email FROM mall.customer
WHERE external_code = ANY(:keys ::text[]) OR phone = ANY(:keys ::text[]) OR email = ANY(:keys ::text[]);

-- name: terms
-- What the shop gives its members.
SELECT points_per_yuan, levels::text AS levels FROM mall.shop;

-- name: hold_members
-- What members have spent so far; nobody else changes it until this transaction ends.
SELECT customer_id, spent_fen FROM mall.customer WHERE customer_id = ANY(:customers ::uuid[])
ORDER BY customer_id FOR NO KEY UPDATE;

-- name: settle_members!
-- What they have spent now, their levels, their points.
UPDATE mall.customer c SET spent_fen = w.spent_fen, level = w.level, points = c.points + w.points
FROM unnest(:customers ::uuid[], :spent ::bigint[], :levels ::integer[], :points ::bigint[]) AS w (customer_id, spent_fen, level, points)
WHERE c.customer_id = w.customer_id;

-- name: account
-- The account of a login.
SELECT account_id FROM mall.account WHERE login = :login AND disabled_at IS NULL;
