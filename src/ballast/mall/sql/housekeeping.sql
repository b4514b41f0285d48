-- name: shops
-- (as the platform's role) All of them.
SELECT shop_id FROM mall.directory ORDER BY shop_id;

-- name: keys
-- Keys of writes that nobody repeats any more.
DELETE FROM mall.idempotency WHERE (shop_id, scope, key) IN (
    SELECT shop_id, scope, key FROM mall.idempotency WHERE created_at < :before LIMIT :most FOR UPDATE SKIP LOCKED
);

-- name: messages
-- Messages to webhooks that were heard or given up. One that is asked for anew at this moment is locked, or waits again.
DELETE FROM mall.webhook_delivery WHERE (shop_id, delivery_id) IN (
    SELECT shop_id, delivery_id FROM mall.webhook_delivery
    WHERE status <> 'waiting' AND updated_at < :before LIMIT :most FOR UPDATE SKIP LOCKED
);

-- name: events
-- Events that were handed out, and of which no webhook has a message (any more).
DELETE FROM mall.outbox WHERE (shop_id, event_id) IN (
    SELECT o.shop_id, o.event_id FROM mall.outbox o
    WHERE o.dispatched_at < :before
        AND NOT EXISTS (SELECT FROM mall.webhook_delivery d WHERE d.shop_id = o.shop_id AND d.event_id = o.event_id)
    LIMIT :most FOR UPDATE SKIP LOCKED
);

-- name: codes
-- Codes for another password that nobody used in their time.
DELETE FROM mall.reset_code WHERE (shop_id, customer_id) IN (
    SELECT shop_id, customer_id FROM mall.reset_code WHERE expires_at < :ended_before LIMIT :most FOR UPDATE SKIP LOCKED
);

-- name: guests
-- Browsers that nobody knows any more, with what lay in their carts. Not those of members, nor those that ordered.
WITH gone AS (
    DELETE FROM mall.visitor WHERE (shop_id, visitor_id) IN (
        SELECT v.shop_id, v.visitor_id FROM mall.visitor v
        WHERE v.expires_at < :ended_before AND v.customer_id IS NULL
            AND NOT EXISTS (SELECT FROM mall.orders o WHERE o.shop_id = v.shop_id AND o.owner_id = v.visitor_id)
        LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING shop_id, visitor_id
), carts AS (
    DELETE FROM mall.cart_line c USING gone WHERE c.shop_id = gone.shop_id AND c.owner_id = gone.visitor_id
)
SELECT count(*)::integer AS gone FROM gone;

-- name: sessions
-- (as mall_identity) Sessions that ended, by time or because they were revoked.
DELETE FROM mall.account_session WHERE token_hash IN (
    SELECT token_hash FROM mall.account_session
    WHERE LEAST(expires_at, revoked_at) < :ended_before LIMIT :most FOR UPDATE SKIP LOCKED
);

-- name: links
-- (as mall_identity) Links that were used, or whose time is over.
DELETE FROM mall.account_link WHERE token_hash IN (
    SELECT token_hash FROM mall.account_link
    WHERE LEAST(expires_at, used_at) < :ended_before LIMIT :most FOR UPDATE SKIP LOCKED
);
