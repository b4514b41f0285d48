-- name: all_of
-- The shop's webhooks, with how many of their messages wait.
SELECT w.webhook_id, w.url, w.kinds, w.active, w.failing_since, w.stopped_at, w.created_at,
    (SELECT count(*) FROM mall.webhook_delivery d WHERE d.shop_id = w.shop_id AND d.webhook_id = w.webhook_id AND d.status = 'waiting')::integer AS waiting
FROM mall.webhook w WHERE w.removed_at IS NULL ORDER BY w.created_at, w.webhook_id;

-- name: one
-- One of them, until the transaction's end nobody else's to change.
SELECT w.webhook_id, w.url, w.kinds, w.active, w.failing_since, w.stopped_at, w.created_at, 0 AS waiting
FROM mall.webhook w WHERE w.webhook_id = :webhook_id AND w.removed_at IS NULL FOR UPDATE;

-- name: one_at_a_time
-- Whoever registers one waits for the other: the most are the most.
SELECT pg_advisory_xact_lock(hashtextextended('mall.webhook ' || mall.current_shop()::text, 0));

-- name: add!
INSERT INTO mall.webhook (shop_id, webhook_id, url, secret, kinds, created_at)
VALUES (mall.current_shop(), :webhook_id, :url, :secret, :kinds ::text[], :now);

-- name: change!
UPDATE mall.webhook SET url = :url, kinds = :kinds ::text[] WHERE webhook_id = :webhook_id;

-- name: turn_on!
UPDATE mall.webhook SET active = true, failing_since = NULL, stopped_at = NULL WHERE webhook_id = :webhook_id;

-- name: turn_off!
-- `stopped_at`: by ourselves, since nobody answers; NULL: by the shop.
UPDATE mall.webhook SET active = false, stopped_at = :stopped_at WHERE webhook_id = :webhook_id;

-- name: remove!
UPDATE mall.webhook SET active = false, removed_at = :now, old_secret = NULL WHERE webhook_id = :webhook_id;

-- name: drop_waiting!
-- What waits for a webhook that is off is not sent by itself any more.
UPDATE mall.webhook_delivery SET status = 'given_up', next_at = NULL, updated_at = :now WHERE webhook_id = :webhook_id AND status = 'waiting';

-- name: rotate!
-- A new secret; the one before signs too until `old_until`.
UPDATE mall.webhook SET old_secret = secret, old_until = :old_until, secret = :secret WHERE webhook_id = :webhook_id;

-- name: log
-- Messages of a webhook, newest first, before one that was seen already.
SELECT d.delivery_id, d.event_id, e.kind, d.status, d.attempts, d.next_at, d.answer_status, d.answer_excerpt, e.created_at, d.updated_at
FROM mall.webhook_delivery d JOIN mall.outbox e USING (shop_id, event_id)
WHERE d.webhook_id = :webhook_id AND (:before ::uuid IS NULL OR d.event_id < :before)
ORDER BY d.event_id DESC LIMIT :most;

-- name: again
-- To be sent now, once more from the first attempt.
UPDATE mall.webhook_delivery d SET status = 'waiting', next_at = :now, attempts = 0, updated_at = :now
WHERE d.delivery_id = :delivery_id AND d.webhook_id = :webhook_id RETURNING d.event_id;

-- name: listening
-- Webhooks that want to hear of this kind.
SELECT webhook_id FROM mall.webhook WHERE active AND removed_at IS NULL AND :kind = ANY(kinds);

-- name: tell!
-- This one is to be told of it; once, however often the event is handed out.
INSERT INTO mall.webhook_delivery (shop_id, delivery_id, webhook_id, event_id, status, next_at, updated_at)
VALUES (mall.current_shop(), :delivery_id, :webhook_id, :event_id, 'waiting', :now, :now)
ON CONFLICT (shop_id, webhook_id, event_id) DO NOTHING;

-- name: due
-- (as the platform's role) What is to be sent now, of each webhook a few at most, and every shop's first before any shop's second:
-- whoever is slow keeps nobody else waiting.
SELECT d.shop_id, d.delivery_id, h.failing_since IS NOT NULL AS failing
FROM (SELECT DISTINCT shop_id, webhook_id FROM mall.webhook_delivery WHERE status = 'waiting' AND next_at <= :now) w
JOIN mall.webhook h USING (shop_id, webhook_id)
CROSS JOIN LATERAL (
    SELECT m.shop_id, m.delivery_id, m.next_at FROM mall.webhook_delivery m
    WHERE m.shop_id = w.shop_id AND m.webhook_id = w.webhook_id AND m.status = 'waiting' AND m.next_at <= :now
    ORDER BY m.next_at LIMIT :each
) d
ORDER BY row_number() OVER (PARTITION BY d.shop_id ORDER BY d.next_at), d.next_at LIMIT :most;

-- name: claim
-- One of them is ours until `leased_until`; who is killed meanwhile leaves it to the next. No row: somebody else has it.
WITH mine AS (
    UPDATE mall.webhook_delivery SET attempts = attempts + 1, next_at = :leased_until, updated_at = :now
    WHERE delivery_id = :delivery_id AND status = 'waiting' AND next_at <= :now
    RETURNING shop_id, delivery_id, webhook_id, event_id, attempts
)
SELECT m.delivery_id, m.webhook_id, m.event_id, m.attempts, w.url, w.secret, CASE WHEN w.old_until > :now THEN w.old_secret END AS old_secret,
    w.active AND w.removed_at IS NULL AS active, e.kind, e.body::text AS body, e.created_at
FROM mine m JOIN mall.webhook w USING (shop_id, webhook_id) JOIN mall.outbox e USING (shop_id, event_id);

-- name: settle!
-- What came of an attempt. One that was asked for anew meanwhile (`again`) stays waiting.
UPDATE mall.webhook_delivery SET status = :status, next_at = :next_at, answer_status = :answer_status, answer_excerpt = :answer_excerpt,
    updated_at = :now
WHERE delivery_id = :delivery_id AND attempts = :attempts;

-- name: heard!
UPDATE mall.webhook SET failing_since = NULL WHERE webhook_id = :webhook_id AND failing_since IS NOT NULL;

-- name: not_heard
-- Since when nobody answers.
UPDATE mall.webhook SET failing_since = COALESCE(failing_since, :now) WHERE webhook_id = :webhook_id RETURNING failing_since, active, url;
