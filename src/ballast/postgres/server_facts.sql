-- One JSON document with what ServerFacts in server.py describes, as the current role sees it.
SELECT json_build_object(
           'version_num', current_setting('server_version_num')::int,
           'version', current_setting('server_version'),
           'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
           'database', current_database(),
           'role', current_user,
           'is_superuser', r.rolsuper,
           'may_replicate', r.rolsuper OR r.rolreplication,
           'may_bypass_rls', r.rolsuper OR r.rolbypassrls,
           'can_create_in_database', has_database_privilege(current_database(), 'CREATE'),
           'can_set_replication_role', has_parameter_privilege('session_replication_role', 'SET'),
           'in_recovery', pg_is_in_recovery(),
           'wal_lsn', (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::bigint,
           -- The last checkpoint's timeline may be the one before a promotion; the current file's name is exact.
           'timeline', CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
                            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
           'wal_level', current_setting('wal_level'),
           'max_replication_slots', current_setting('max_replication_slots')::int,
           'used_replication_slots', (SELECT count(*) FROM pg_replication_slots),
           'max_wal_senders', current_setting('max_wal_senders')::int,
           'used_wal_senders', (SELECT count(*) FROM pg_stat_replication),
           'max_slot_wal_keep_size_bytes', (SELECT CASE WHEN setting::bigint < 0 THEN -1
                                                        ELSE setting::bigint * 1024 * 1024 END
                                              FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
           'idle_replication_slot_timeout_s', (SELECT setting::bigint * CASE unit WHEN 'min' THEN 60 ELSE 1 END
                                                 FROM pg_settings WHERE name = 'idle_replication_slot_timeout'),
           'wal_sender_timeout_ms', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'),
           'synchronous_standby_names', current_setting('synchronous_standby_names'),
           'synchronous_commit', current_setting('synchronous_commit'),
           'fsync', current_setting('fsync')::bool,
           'full_page_writes', current_setting('full_page_writes')::bool,
           'track_commit_timestamp', current_setting('track_commit_timestamp')::bool,
           'ssl', coalesce((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false)
       )::text
  FROM pg_roles r
 WHERE r.rolname = current_user
