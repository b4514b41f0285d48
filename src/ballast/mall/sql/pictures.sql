-- name: note!
-- The shop has this picture; where it has it already, nothing changes.
INSERT INTO mall.picture (shop_id, picture, media_type, width, height, size_bytes)
VALUES (mall.current_shop(), :picture, :media_type, :width, :height, :size_bytes)
ON CONFLICT DO NOTHING;

-- name: known
-- Which of these pictures the shop has.
SELECT picture FROM mall.picture WHERE picture = ANY(:pictures ::text[]);

-- name: listed
-- The shop's pictures, the newest first, after one that was seen already.
SELECT p.picture, p.width, p.height, p.size_bytes, p.created_at FROM mall.picture p
WHERE :before ::text = '' OR (p.created_at, p.picture) < (SELECT b.created_at, b.picture FROM mall.picture b WHERE b.picture = :before ::text)
ORDER BY p.created_at DESC, p.picture DESC LIMIT :most;
