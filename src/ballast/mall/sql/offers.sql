-- name: listed
-- Products of any status, the newest first.
SELECT product_id, status, title, title_en, min_price_fen, max_price_fen, sold, external_code, version, created_at, updated_at
FROM mall.product
WHERE (:status ::text IS NULL OR status = :status ::text) AND (:before ::uuid IS NULL OR product_id < :before ::uuid)
ORDER BY product_id DESC LIMIT :most ::integer;

-- name: product
-- One of them.
SELECT product_id, status, title, title_en, min_price_fen, max_price_fen, sold, external_code, version, created_at, updated_at
FROM mall.product WHERE product_id = :product_id;

-- name: hold
-- The version of a product that nobody else changes until the transaction ends.
SELECT version FROM mall.product WHERE product_id = :product_id FOR NO KEY UPDATE;

-- name: skus
-- A product's SKUs with their stock, in its order.
SELECT k.sku_id, k.code, k.options, k.price_fen, k.compare_at_fen, k.weight_g, k.active,
       COALESCE(s.on_hand, 0) AS on_hand, COALESCE(s.reserved, 0) AS reserved
FROM mall.sku k LEFT JOIN mall.stock s USING (shop_id, sku_id)
WHERE k.product_id = :product_id ORDER BY k.position, k.sku_id;

-- name: change!
-- Another status, or the one it has; what its SKUs cost now is what lists show.
UPDATE mall.product p SET status = COALESCE(:status ::text, p.status), version = p.version + 1, updated_at = :now,
    min_price_fen = COALESCE(k.least, p.min_price_fen), max_price_fen = COALESCE(k.most, p.max_price_fen)
FROM (SELECT min(price_fen) AS least, max(price_fen) AS most FROM mall.sku WHERE product_id = :product_id AND active) k
WHERE p.product_id = :product_id;

-- name: change_sku
-- What is given of a SKU; `compare_given`: its crossed-out price is given, and may be NULL. No row: the product has no such SKU.
UPDATE mall.sku SET price_fen = COALESCE(:price_fen ::bigint, price_fen),
    compare_at_fen = CASE WHEN :compare_given ::boolean THEN :compare_at_fen ::bigint ELSE compare_at_fen END,
    code = COALESCE(:code ::text, code), active = COALESCE(:active ::boolean, active)
WHERE product_id = :product_id AND sku_id = :sku_id RETURNING sku_id;

-- name: sku
-- What a change of a SKU begins from.
SELECT price_fen, compare_at_fen FROM mall.sku WHERE product_id = :product_id AND sku_id = :sku_id;
