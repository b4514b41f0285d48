-- name: write!
-- Something happened.
INSERT INTO mall.outbox (shop_id, event_id, kind, body, created_at) VALUES (mall.current_shop(), :event_id, :kind, :body ::jsonb, :now);

-- name: take
-- The oldest events that wait, without those that another dispatcher has in hand.
SELECT event_id, kind, body::text AS body, created_at FROM mall.outbox
WHERE dispatched_at IS NULL ORDER BY created_at, event_id LIMIT :most FOR UPDATE SKIP LOCKED;

-- name: dispatched!
-- They were handed out.
UPDATE mall.outbox SET dispatched_at = :now WHERE event_id = ANY(:events ::uuid[]);

-- name: shops_waiting
-- (as the platform's role) Shops with events that wait.
SELECT DISTINCT shop_id FROM mall.outbox WHERE dispatched_at IS NULL LIMIT :most;
