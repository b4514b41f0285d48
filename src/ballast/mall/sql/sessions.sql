-- name: start!
INSERT INTO mall.account_session (token_hash, account_id, created_at, seen_at, expires_at, address, agent)
VALUES (:token_hash, :account_id, :now, :now, :expires_at, :address, :agent);

-- name: look_up
-- The session of a token, while it holds and its account may sign in.
SELECT s.token_hash, s.account_id, a.login, a.name, a.language, a.operator, a.totp_secret IS NOT NULL AS has_totp, s.seen_at
FROM mall.account_session s
JOIN mall.account a USING (account_id)
WHERE s.token_hash = :token_hash AND s.revoked_at IS NULL AND s.expires_at > :now AND s.seen_at > :seen_after
    AND a.disabled_at IS NULL;

-- name: touch!
UPDATE mall.account_session SET seen_at = :now WHERE token_hash = :token_hash AND seen_at < :now;

-- name: of_account
-- Where an account is signed in.
SELECT token_hash, created_at, seen_at, address, agent
FROM mall.account_session
WHERE account_id = :account_id AND revoked_at IS NULL AND expires_at > :now AND seen_at > :seen_after
ORDER BY seen_at DESC;

-- name: revoke!
UPDATE mall.account_session SET revoked_at = :now
WHERE account_id = :account_id AND token_hash = :token_hash AND revoked_at IS NULL;

-- name: revoke_all!
-- Every session of an account but one, or all of them.
UPDATE mall.account_session SET revoked_at = :now
WHERE account_id = :account_id AND revoked_at IS NULL AND (:but::bytea IS NULL OR token_hash <> :but);
