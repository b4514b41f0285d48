-- name: claim
-- This key is ours now, or no row: it was used before. Two at once wait here for each other.
INSERT INTO mall.idempotency (shop_id, scope, key, request_hash, created_at)
VALUES (mall.current_shop(), :scope, :key, :request_hash, :now)
ON CONFLICT DO NOTHING RETURNING key;

-- name: answer!
-- What was answered, in the transaction of the deed.
UPDATE mall.idempotency SET answer = :answer ::jsonb WHERE scope = :scope AND key = :key;

-- name: answered
-- What was asked and answered when the key was used.
SELECT request_hash, answer::text AS answer FROM mall.idempotency WHERE scope = :scope AND key = :key;

-- name: answered_elsewhere!
-- What was answered where the key was used.
INSERT INTO mall.idempotency (shop_id, scope, key, request_hash, answer, created_at)
VALUES (mall.current_shop(), :scope, :key, :request_hash, :answer ::jsonb, :now)
ON CONFLICT DO NOTHING;

-- name: adopt!
-- The keys of one scope are another's; but none that is there already.
UPDATE mall.idempotency i SET scope = :member
WHERE scope = :guest AND NOT EXISTS (SELECT FROM mall.idempotency m WHERE m.scope = :member AND m.key = i.key);
