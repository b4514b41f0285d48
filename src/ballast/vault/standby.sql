-- Whom commits wait for, who said so (ALTER SYSTEM, or a file of the owner's), and which receivers are there.
SELECT n.setting,
       coalesce(n.sourcefile LIKE '%%postgresql.auto.conf', false) AS by_alter_system,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END
        - '0/0')::bigint AS server_lsn,
       coalesce((SELECT jsonb_object_agg(r.application_name,
                        jsonb_build_object('streaming', r.state IN ('streaming', 'catchup'),
                                           'waited_for', r.sync_state IN ('sync', 'quorum'),
                                           'replied', r.reply_time::text))
                 FROM pg_stat_replication r
                 WHERE r.application_name LIKE 'ballast%%'), '{}') AS receivers,
       (SELECT coalesce(jsonb_agg(s.slot_name), '[]')
        FROM pg_replication_slots s
        WHERE s.slot_name LIKE 'ballast%%' AND s.plugin = 'pgoutput'
          AND s.database = current_database()) AS recorders,
       (SELECT (s.confirmed_flush_lsn - '0/0')::bigint
        FROM pg_replication_slots s
        WHERE s.slot_name = %(slot)s) AS confirmed_flush
FROM pg_settings n
WHERE n.name = 'synchronous_standby_names'
