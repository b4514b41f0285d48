-- name: listed
-- SKUs that are offered, with their stock; those of the newest products first.
SELECT k.sku_id, k.product_id, p.title, p.title_en, p.status, p.pictures[1] AS picture, k.options, k.code,
    COALESCE(s.on_hand, 0) AS on_hand, COALESCE(s.reserved, 0) AS reserved
FROM mall.sku k JOIN mall.product p USING (shop_id, product_id) LEFT JOIN mall.stock s USING (shop_id, sku_id)
WHERE k.active AND p.status <> 'archived'
    AND (:q ::text = '' OR p.search @@ NULLIF(:query ::text, '')::tsquery OR k.code = :q ::text OR p.external_code = :q ::text)
    AND (:low ::integer IS NULL OR COALESCE(s.on_hand - s.reserved, 0) <= :low ::integer)
    AND (:before ::uuid IS NULL OR k.sku_id < :before ::uuid)
ORDER BY k.sku_id DESC LIMIT :most;

-- name: one
-- A SKU, offered or not.
SELECT k.sku_id, k.product_id, p.title, p.title_en, p.status, p.pictures[1] AS picture, k.options, k.code,
    COALESCE(s.on_hand, 0) AS on_hand, COALESCE(s.reserved, 0) AS reserved
FROM mall.sku k JOIN mall.product p USING (shop_id, product_id) LEFT JOIN mall.stock s USING (shop_id, sku_id)
WHERE k.sku_id = :sku_id;

-- name: begin!
-- A SKU that nobody gave a stock yet has none of it.
INSERT INTO mall.stock (shop_id, sku_id) VALUES (mall.current_shop(), :sku_id) ON CONFLICT DO NOTHING;
