-- Everything that capture rests on, as one JSON document (its text: the driver need not take it apart), in one snapshot.
-- xmin of a catalog row changes with every change of it: a setting switched and switched back between two looks still shows.
SELECT jsonb_build_object(
  'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
  'publication', (
    SELECT jsonb_build_object('oid', oid::bigint, 'xmin', xmin::text, 'all_tables', puballtables,
             'operations', array_to_string(ARRAY[
                CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
                CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END], ','),
             'via_root', pubviaroot)
    FROM pg_publication WHERE pubname = %(publication)s),
  'published', (
    -- A row filter or a column list leaves changes out as surely as a missing table does; after the '#' the number that
    -- a table gets when it is put into a list, another one each time.
    SELECT coalesce(jsonb_object_agg(n.nspname || '.' || c.relname,
             coalesce(md5(pr.prqual::text), '') || coalesce(pr.prattrs::text, '') || coalesce('#' || pr.oid, '')), '{}')
    FROM pg_publication p
    CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t
    JOIN pg_class c ON c.oid = t.relid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid
    WHERE p.pubname = %(publication)s),
  'tables', (
    SELECT coalesce(jsonb_object_agg(c.oid::text, jsonb_build_object(
             'name', n.nspname || '.' || c.relname, 'persistence', c.relpersistence,
             'replica_identity', c.relreplident,
             'identity_index', (SELECT i.indexrelid::bigint FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident),
             'file', pg_relation_filenode(c.oid)::bigint)), '{}')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'ballast', 'ballast_recovery', 'ballast_restore')
      AND n.nspname NOT LIKE 'pg\_toast%%'),
  'event_triggers', (
    SELECT coalesce(jsonb_object_agg(e.evtname, jsonb_build_object(
             'enabled', e.evtenabled, 'xmin', e.xmin::text, 'function', p.proname || ' ' || code.hash,
             'event', e.evtevent, 'tags', coalesce(array_to_string(e.evttags, ','), ''))), '{}')
    FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
    -- Not of the trigger's function alone: those that it calls can silence it as well.
    CROSS JOIN (SELECT coalesce(md5(string_agg(f.proname || f.prosrc || f.prosecdef || coalesce(f.proconfig::text, ''), ','
                         ORDER BY f.proname, f.proargtypes::text)), '') AS hash
                FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
                -- A recovery's own comes and goes; no trigger calls it.
                WHERE n.nspname = 'ballast' AND f.proname <> 'ensure_tenant') AS code
    WHERE e.evtname LIKE 'ballast%%'),
  'slot', (
    SELECT jsonb_build_object('plugin', plugin, 'database', database, 'wal_status', wal_status,
             'confirmed_flush', confirmed_flush_lsn::text, 'restart', restart_lsn::text, 'active', active,
             'held_bytes', (pg_current_wal_lsn() - restart_lsn)::bigint)
    FROM pg_replication_slots WHERE slot_name = %(slot)s),
  'settings', (
    -- reset_val: what other sessions have, whatever this one has set for itself.
    SELECT jsonb_object_agg(name, reset_val || CASE WHEN name = 'wal_level' AND pending_restart
                                                    THEN ' (another after the next restart)' ELSE '' END)
    FROM pg_settings
    WHERE name IN ('wal_level', 'synchronous_commit', 'synchronous_standby_names', 'fsync', 'full_page_writes',
                   'event_triggers', 'session_replication_role', 'max_slot_wal_keep_size', 'idle_replication_slot_timeout')),
  'overrides', (
    -- What a role or a database brings to every new session of its own.
    SELECT coalesce(jsonb_object_agg(
             coalesce(r.rolname, '*') || '@' || coalesce(d.datname, '*') || ' ' || split_part(setting, '=', 1),
             split_part(setting, '=', 2)), '{}')
    FROM pg_db_role_setting s
    LEFT JOIN pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
    CROSS JOIN LATERAL unnest(s.setconfig) AS setting
    WHERE split_part(setting, '=', 1) IN ('synchronous_commit', 'session_replication_role', 'event_triggers')),
  'lsn', pg_current_wal_insert_lsn()::text
)::text
