-- name: products
-- What an editor chooses from: products that a search (a tsquery of rules.bigrams) finds, or the newest.
SELECT p.product_id, p.title, p.title_en, p.pictures[1] AS picture, p.status
FROM mall.product p WHERE p.status <> 'archived' AND (:query ::text IS NULL OR p.search @@ (:query ::text)::tsquery)
ORDER BY p.product_id DESC LIMIT :most;

-- name: products_of
-- These products.
SELECT p.product_id, p.title, p.title_en, p.pictures[1] AS picture, p.status FROM mall.product p WHERE p.product_id = ANY(:products ::uuid[]);

-- name: skus
-- The SKUs of these products.
SELECT k.sku_id, k.product_id, p.title, p.title_en, k.options, k.price_fen
FROM mall.sku k JOIN mall.product p USING (shop_id, product_id)
WHERE k.product_id = ANY(:products ::uuid[]) AND k.active ORDER BY k.product_id DESC, k.position, k.sku_id LIMIT :most;

-- name: categories
SELECT category_id, name, name_en FROM mall.category ORDER BY position, category_id LIMIT 500;

-- name: pictures
-- The pictures that were brought last.
SELECT picture, width, height, created_at FROM mall.picture ORDER BY created_at DESC, picture LIMIT :most;

-- name: has_pictures
-- Which of these the shop has.
SELECT picture FROM mall.picture WHERE picture = ANY(:pictures ::text[]);
