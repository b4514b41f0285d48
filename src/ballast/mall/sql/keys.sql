-- name: make!
-- A new key of the shop; what is kept of its secret is a hash.
INSERT INTO mall.api_key (shop_id, key_id, name, secret_hash, scopes, expires_at, created_at)
VALUES (mall.current_shop(), :key_id, :name, :secret_hash, :scopes, :expires_at, :now);

-- name: held
-- How many keys hold; the shop's row is locked, so that two that are made at once count each other.
SELECT (SELECT count(*) FROM mall.api_key k WHERE k.shop_id = h.shop_id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now ::timestamptz)) AS keys
FROM mall.shop h FOR NO KEY UPDATE OF h;

-- name: listed
-- The shop's keys, those that hold first, then the newest.
SELECT key_id, name, scopes, expires_at, last_used_at, revoked_at, created_at FROM mall.api_key
ORDER BY (revoked_at IS NOT NULL OR COALESCE(expires_at <= :now ::timestamptz, false)), key_id DESC;

-- name: revoke
-- Good for nothing from now on; no row where it was revoked already, or never was.
UPDATE mall.api_key SET revoked_at = :now WHERE key_id = :key_id AND revoked_at IS NULL RETURNING name;

-- name: find
-- A key that holds, and how its shop stands.
SELECT k.key_id, k.name, k.scopes, k.last_used_at, d.slug, d.status, d.service_until, d.closing_at
FROM mall.api_key k JOIN mall.directory d USING (shop_id)
WHERE k.key_id = :key_id AND k.secret_hash = :secret_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now ::timestamptz);

-- name: used!
-- It was used about now.
UPDATE mall.api_key SET last_used_at = :now WHERE key_id = :key_id AND (last_used_at IS NULL OR last_used_at < :now ::timestamptz);
