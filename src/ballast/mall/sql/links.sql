-- name: invite!
-- An invitation; names no account, so that the platform's role may make it.
INSERT INTO mall.account_link (token_hash, purpose, shop_id, role, expires_at)
VALUES (:token_hash, 'invitation', :shop_id, :role, :expires_at);

-- name: make!
INSERT INTO mall.account_link (token_hash, purpose, account_id, expires_at)
VALUES (:token_hash, :purpose, :account_id, :expires_at);

-- name: read
-- A link that can still be used.
SELECT l.purpose, l.account_id, l.shop_id, l.role, l.expires_at, coalesce(d.name, '') AS shop_name, coalesce(d.slug, '') AS slug,
    coalesce(a.login, '') AS login
FROM mall.account_link l
LEFT JOIN mall.directory d USING (shop_id)
LEFT JOIN mall.account a USING (account_id)
WHERE l.token_hash = :token_hash AND l.used_at IS NULL AND l.expires_at > :now;

-- name: use
-- Takes a link; no row where it was taken, or its time is over.
UPDATE mall.account_link SET used_at = :now
WHERE token_hash = :token_hash AND used_at IS NULL AND expires_at > :now
RETURNING purpose, account_id, shop_id, role;

-- name: end_of_account!
-- Links for a new password end when one was used or the password was changed.
UPDATE mall.account_link SET used_at = :now
WHERE account_id = :account_id AND purpose = 'new_password' AND used_at IS NULL;

-- name: waiting_of_shop
SELECT encode(token_hash, 'hex') AS link, role, expires_at FROM mall.account_link
WHERE shop_id = :shop_id AND purpose = 'invitation' AND used_at IS NULL AND expires_at > :now
ORDER BY created_at;

-- name: withdraw
UPDATE mall.account_link SET used_at = :now
WHERE shop_id = :shop_id AND token_hash = decode(:link, 'hex') AND purpose = 'invitation' AND used_at IS NULL
RETURNING role;
