-- name: listed
-- Products of any status, the newest first.
SELECT product_id, status, title, title_en, min_price_fen, max_price_fen, sold, external_code, version, created_at, updated_at
FROM mall.product
WHERE (:status ::text IS NULL OR status = :status ::text) AND (:before ::uuid IS NULL OR product_id < :before ::uuid)
ORDER BY product_id DESC LIMIT :most ::integer;
