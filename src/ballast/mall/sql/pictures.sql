-- name: note!
-- The shop has this picture; where it has it already, nothing changes.
INSERT INTO mall.picture (shop_id, picture, media_type, width, height, size_bytes)
VALUES (mall.current_shop(), :picture, :media_type, :width, :height, :size_bytes)
ON CONFLICT DO NOTHING;

-- name: room
-- Bytes of the shop's pictures, and how many MB its plan allows.
SELECT (SELECT COALESCE(sum(p.size_bytes), 0)::bigint FROM mall.picture p) AS used, n.max_pictures_mb AS most_mb
FROM mall.directory d JOIN mall.plan n ON n.code = d.plan WHERE d.shop_id = mall.current_shop();

-- name: known
-- Which of these pictures the shop has.
SELECT picture FROM mall.picture WHERE picture = ANY(:pictures ::text[]);

-- name: listed
-- The shop's pictures, the newest first, after one that was seen already.
SELECT p.picture, p.width, p.height, p.size_bytes, p.created_at FROM mall.picture p
WHERE :before ::text = '' OR (p.created_at, p.picture) < (SELECT b.created_at, b.picture FROM mall.picture b WHERE b.picture = :before ::text)
ORDER BY p.created_at DESC, p.picture DESC LIMIT :most;
