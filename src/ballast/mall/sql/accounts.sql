-- name: by_login
SELECT account_id, login, name, password_hash, totp_secret, language, operator, disabled_at IS NOT NULL AS disabled
FROM mall.account WHERE login = :login;

-- name: by_id
SELECT account_id, login, name, password_hash, totp_secret, language, operator, disabled_at IS NOT NULL AS disabled
FROM mall.account WHERE account_id = :account_id;

-- name: hold
-- The account of a sign-in whose password was right a moment ago, unless it has been changed or disabled since.
SELECT account_id FROM mall.account
WHERE account_id = :account_id AND password_hash = :password_hash AND disabled_at IS NULL
FOR UPDATE;

-- name: add
INSERT INTO mall.account (account_id, login, name, password_hash, language, operator, created_at)
VALUES (:account_id, :login, :name, :password_hash, :language, :operator, :now)
ON CONFLICT (login) DO NOTHING
RETURNING account_id;

-- name: set_password!
UPDATE mall.account SET password_hash = :password_hash WHERE account_id = :account_id;

-- name: set_totp!
UPDATE mall.account SET totp_secret = :secret, totp_last_step = :step WHERE account_id = :account_id;

-- name: use_step
-- Takes a time step; no row where this or a later one was taken already.
UPDATE mall.account SET totp_last_step = :step
WHERE account_id = :account_id AND (totp_last_step IS NULL OR totp_last_step < :step)
RETURNING account_id;

-- name: rename!
UPDATE mall.account SET name = :name, language = :language WHERE account_id = :account_id;

-- name: make_operator!
UPDATE mall.account SET operator = true WHERE account_id = :account_id;

-- name: operators_there
SELECT count(*) AS operators FROM mall.account WHERE operator AND disabled_at IS NULL;

-- name: one_at_a_time
-- Whoever changes who the operators are waits here for the other.
SELECT pg_advisory_xact_lock(hashtextextended('mall.operators', 0));

-- name: count_attempt
-- One more attempt of a bucket, whose window begins anew when it is over.
INSERT INTO mall.signin_attempts (bucket, since, attempts) VALUES (:bucket, :now, 1)
ON CONFLICT (bucket) DO UPDATE SET
    attempts = CASE WHEN signin_attempts.since < :now - :window::interval THEN 1 ELSE signin_attempts.attempts + 1 END,
    since = CASE WHEN signin_attempts.since < :now - :window::interval THEN :now ELSE signin_attempts.since END
RETURNING attempts, since;

-- name: forget_attempts!
DELETE FROM mall.signin_attempts WHERE bucket = :bucket;

-- name: forget_old_attempts!
DELETE FROM mall.signin_attempts WHERE since < :now - :window::interval;
