-- The slot and how much WAL production keeps for it. No row: there is no such slot. Parameter: slot.
SELECT s.wal_status,
       (s.confirmed_flush_lsn - '0/0')::bigint,
       s.active,
       (here.lsn - s.restart_lsn)::bigint AS held_bytes,
       CASE WHEN k.setting = '-1' THEN NULL ELSE k.setting::bigint * 1024 * 1024 END AS limit_bytes,
       (here.lsn - '0/0')::bigint AS server_lsn
FROM pg_replication_slots s
CROSS JOIN pg_settings k
CROSS JOIN LATERAL (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn
) here
WHERE s.slot_name = %(slot)s
  AND k.name = 'max_slot_wal_keep_size'
