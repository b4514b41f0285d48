-- name: secret
-- What is stored of a member's password, and what he logs in with.
SELECT customer_id, phone, email, password_hash FROM mall.customer WHERE customer_id = :customer_id AND disabled_at IS NULL;

-- name: rename!
UPDATE mall.customer SET name = :name WHERE customer_id = :customer_id;

-- name: change_password
-- Another password instead of the one that was proven; no row where it is another one already.
UPDATE mall.customer SET password_hash = :password_hash
WHERE customer_id = :customer_id AND password_hash IS NOT DISTINCT FROM :before ::text AND disabled_at IS NULL
RETURNING customer_id;

-- name: set_password
UPDATE mall.customer SET password_hash = :password_hash WHERE customer_id = :customer_id AND disabled_at IS NULL RETURNING customer_id;

-- name: keep_code!
-- The code that was given out last is the only one.
INSERT INTO mall.reset_code (shop_id, customer_id, code_hash, made_at, expires_at)
VALUES (mall.current_shop(), :customer_id, :code_hash, :now, :expires_at)
ON CONFLICT (shop_id, customer_id) DO UPDATE SET code_hash = EXCLUDED.code_hash, tries = 0, made_at = EXCLUDED.made_at, expires_at = EXCLUDED.expires_at;

-- name: try_code
-- One more try of the code of a login; no row where there is none, its time is over, or it was tried too often.
UPDATE mall.reset_code r SET tries = r.tries + 1
FROM mall.customer c
WHERE c.shop_id = r.shop_id AND c.customer_id = r.customer_id AND c.disabled_at IS NULL
  AND (c.phone = :phone OR c.email = :email) AND r.expires_at > :now AND r.tries < :most ::integer
RETURNING r.customer_id, r.code_hash;

-- name: use_code
-- It is used; no row where it was used already, or another was given out since.
DELETE FROM mall.reset_code WHERE customer_id = :customer_id AND code_hash = :code_hash RETURNING customer_id;

-- name: drop_code!
-- Whatever was given out is good for nothing.
DELETE FROM mall.reset_code WHERE customer_id = :customer_id;
