-- name: oldest
-- (as the platform's role) Whether a worker is connected (`turns`), and since when what it does has waited the longest.
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
               AND l.classid::bigint = :of_workers ::bigint AND l.objid = 0
               AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())) AS at_work,
    (SELECT min(o.pay_by) FROM mall.orders o WHERE o.status = 'pending_payment') AS unpaid,
    (SELECT min(e.created_at) FROM mall.outbox e WHERE e.dispatched_at IS NULL) AS unheard;
