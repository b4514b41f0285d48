-- name: one_at_a_time
-- Whoever changes a shop's staff waits here for the other: the last owner stays, and the plan's number is kept.
SELECT pg_advisory_xact_lock(hashtextextended('mall.staff ' || :shop_id::text, 0));

-- name: of_shop
SELECT s.account_id, a.login, a.name, s.role, s.created_at, a.disabled_at IS NOT NULL AS disabled
FROM mall.staff s JOIN mall.account a USING (account_id)
WHERE s.shop_id = :shop_id AND s.removed_at IS NULL
ORDER BY array_position(ARRAY['owner', 'manager', 'clerk', 'finance', 'viewer'], s.role), a.login;

-- name: membership
-- In what role an account works in the shop of a slug, and how the shop stands.
SELECT d.shop_id, d.slug, d.name, d.status, d.status_reason, d.service_until, d.closing_at, d.plan, s.role
FROM mall.directory d
JOIN mall.staff s ON s.shop_id = d.shop_id AND s.account_id = :account_id AND s.removed_at IS NULL
WHERE d.slug = :slug;

-- name: memberships
SELECT d.shop_id, d.slug, d.name, d.status, d.status_reason, d.service_until, d.closing_at, d.plan, s.role
FROM mall.staff s JOIN mall.directory d USING (shop_id)
WHERE s.account_id = :account_id AND s.removed_at IS NULL
ORDER BY d.name, d.slug;

-- name: room
-- How many work there, and how many the plan allows.
SELECT (SELECT count(*) FROM mall.staff s WHERE s.shop_id = d.shop_id AND s.removed_at IS NULL) AS staff, p.max_staff
FROM mall.directory d JOIN mall.plan p ON p.code = d.plan
WHERE d.shop_id = :shop_id;

-- name: role_of
SELECT role FROM mall.staff WHERE shop_id = :shop_id AND account_id = :account_id AND removed_at IS NULL;

-- name: reach
-- Whether an account of the staff is used beyond this shop: in another one, or as an operator's.
SELECT a.operator OR EXISTS (SELECT FROM mall.staff o WHERE o.account_id = s.account_id AND o.shop_id <> s.shop_id AND o.removed_at IS NULL) AS elsewhere
FROM mall.staff s JOIN mall.account a USING (account_id)
WHERE s.shop_id = :shop_id AND s.account_id = :account_id AND s.removed_at IS NULL;

-- name: join!
-- Who was removed and comes back gets the line it had.
INSERT INTO mall.staff (shop_id, account_id, role, created_at) VALUES (:shop_id, :account_id, :role, :now)
ON CONFLICT (shop_id, account_id) DO UPDATE SET role = excluded.role, removed_at = NULL;

-- name: set_role!
UPDATE mall.staff SET role = :role WHERE shop_id = :shop_id AND account_id = :account_id AND removed_at IS NULL;

-- name: remove!
UPDATE mall.staff SET removed_at = :now WHERE shop_id = :shop_id AND account_id = :account_id AND removed_at IS NULL;

-- name: other_owners
SELECT count(*) AS owners FROM mall.staff s JOIN mall.account a USING (account_id)
WHERE s.shop_id = :shop_id AND s.role = 'owner' AND s.removed_at IS NULL AND a.disabled_at IS NULL AND s.account_id <> :account_id;
