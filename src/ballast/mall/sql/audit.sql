-- name: add_to_platform!
-- A line of the platform's record; lines are added and never changed.
INSERT INTO mall.platform_audit (audit_id, account_id, action, shop_id_of, subject, detail, address, at)
VALUES (:audit_id, :account_id, :action, :shop_id, :subject, :detail::jsonb, :address, :at);

-- name: add_to_shop!
-- A line of a shop's record.
INSERT INTO mall.audit (shop_id, audit_id, account_id, actor, action, subject, detail, address, at)
VALUES (:shop_id, :audit_id, :account_id, :actor, :action, :subject, :detail::jsonb, :address, :at);

-- name: of_platform
-- The platform's record, newest first, before a line that was seen already.
SELECT a.audit_id, coalesce(c.login, '') AS actor, a.action, a.shop_id_of AS shop_id, coalesce(d.slug, '') AS slug,
    a.subject, a.detail::text AS detail, a.address, a.at
FROM mall.platform_audit a
LEFT JOIN mall.account c USING (account_id)
LEFT JOIN mall.directory d ON d.shop_id = a.shop_id_of
WHERE (:before::uuid IS NULL OR a.audit_id < :before)
    AND (:shop_id::uuid IS NULL OR a.shop_id_of = :shop_id)
    AND (:action::text = '' OR starts_with(a.action, :action))
ORDER BY a.audit_id DESC
LIMIT :most;

-- name: of_shop
-- A shop's record, newest first, before a line that was seen already.
SELECT audit_id, actor, action, shop_id, '' AS slug, subject, detail::text AS detail, address, at
FROM mall.audit
WHERE shop_id = :shop_id AND (:before::uuid IS NULL OR audit_id < :before)
    AND (:action::text = '' OR starts_with(action, :action)) AND (:actor::text = '' OR actor = :actor)
ORDER BY audit_id DESC
LIMIT :most;
