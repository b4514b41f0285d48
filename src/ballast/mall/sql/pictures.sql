-- name: note!
-- The shop has this picture; where it has it already, nothing changes.
INSERT INTO mall.picture (shop_id, picture, media_type, width, height, size_bytes)
VALUES (mall.current_shop(), :picture, :media_type, :width, :height, :size_bytes)
ON CONFLICT DO NOTHING;

-- name: known
-- Which of these pictures the shop has.
SELECT picture FROM mall.picture WHERE picture = ANY(:pictures ::text[]);
