-- name: there
-- (as the platform's role) Which of these shops are there, or whose address is taken.
SELECT shop_id, slug FROM mall.directory WHERE shop_id = ANY(:shops ::uuid[]) OR slug = ANY(:slugs ::text[]);

-- name: claim_key
-- This key is ours, or no row: it was used before.
INSERT INTO mall.idempotency (shop_id, scope, key, request_hash, answer, created_at)
VALUES (mall.current_shop(), :scope, :key, :request_hash, :answer ::jsonb, :now)
ON CONFLICT DO NOTHING RETURNING key;
