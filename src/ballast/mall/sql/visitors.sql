-- name: open!
-- A browser that comes for the first time, or anew after logging in or out. Who is there already stays as he is.
INSERT INTO mall.visitor (shop_id, visitor_id, token_hash, customer_id, created_at, seen_at, expires_at)
VALUES (mall.current_shop(), :visitor_id, :token_hash, :customer_id, :now, :now, :expires_at)
ON CONFLICT DO NOTHING;

-- name: met
-- Whether a token was ever known here, good or over.
SELECT expires_at FROM mall.visitor WHERE token_hash = :token_hash;

-- name: find
-- Who has this token: a guest, or the member who logged in with it.
SELECT v.visitor_id, v.customer_id, v.seen_at, v.expires_at, COALESCE(c.name, '') AS name, COALESCE(c.level, 0) AS level,
       COALESCE(c.points, 0) AS points, c.phone, c.email
FROM mall.visitor v LEFT JOIN mall.customer c USING (shop_id, customer_id)
WHERE v.token_hash = :token_hash AND v.expires_at > :now AND c.disabled_at IS NULL;

-- name: member
-- The customer whom a visitor logged in as.
SELECT customer_id FROM mall.visitor WHERE visitor_id = :visitor_id AND customer_id IS NOT NULL;

-- name: good
-- Whether a guest's token still is. (Whose it is never changes: one who registers or logs in has another one.)
SELECT FROM mall.visitor WHERE token_hash = :token_hash AND expires_at > :now AND customer_id IS NULL;

-- name: seen!
-- He came again: his time begins anew.
UPDATE mall.visitor SET seen_at = :now, expires_at = :expires_at WHERE visitor_id = :visitor_id;

-- name: end!
-- This token is good for nothing any more.
UPDATE mall.visitor SET expires_at = :now WHERE visitor_id = :visitor_id;

-- name: end_of_customer!
-- All tokens that a customer has at this moment, but this one.
UPDATE mall.visitor SET expires_at = :now WHERE customer_id = :customer_id AND visitor_id <> :but AND expires_at > :now AND created_at <= :now;

-- name: register
-- A new customer; nothing where the phone or the address is somebody else's already.
WITH made AS (
INSERT INTO mall.customer (shop_id, customer_id, phone, email, name, password_hash, created_at)
VALUES (mall.current_shop(), :customer_id, :phone, :email, :name, :password_hash, :now)
ON CONFLICT DO NOTHING
RETURNING customer_id
)
SELECT customer_id FROM made
UNION ALL SELECT customer_id FROM mall.customer WHERE customer_id = :customer_id;

-- name: by_login
-- The customer of a phone or an address.
SELECT customer_id, password_hash FROM mall.customer
WHERE (phone = :phone OR email = :email) AND disabled_at IS NULL;

-- name: adopt_orders!
-- What he ordered in this browser as a guest is the member's.
UPDATE mall.orders SET owner_id = :member, customer_id = :member WHERE owner_id = :guest AND customer_id IS NULL;

-- name: adopt_coupons
-- … and the coupons that he took, but of none a second one.
UPDATE mall.coupon_claim c SET owner_id = :member
WHERE c.owner_id = :guest
  AND NOT EXISTS (SELECT FROM mall.coupon_claim m WHERE m.owner_id = :member AND m.coupon_id = c.coupon_id);
