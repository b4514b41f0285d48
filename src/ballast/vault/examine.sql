-- What `examine` must know of a server beside its facts and its catalog, as the current role sees it: one JSON document.
-- Parameters: publication, slot.
WITH
here AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relkind, c.relpersistence, c.relispartition,
           c.relrowsecurity, c.relforcerowsecurity, pg_has_role(c.relowner, 'USAGE') AS owned
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'ballast', 'ballast_recovery', 'ballast_restore')
),
me AS (
    SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user
)
SELECT jsonb_build_object(
  'foreign_tables', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM here WHERE relkind = 'f'),
  'materialized_views', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM here WHERE relkind = 'm'),
  'not_owned', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM here
                 WHERE relkind IN ('r', 'p') AND relpersistence = 'p' AND NOT owned
                   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = here.oid
                                      AND d.objsubid = 0 AND d.deptype = 'e')),
  -- Row-level security that this role cannot get around would hide rows from the image.
  'hidden', (SELECT coalesce(jsonb_agg(h.name ORDER BY h.name), '[]') FROM here h, me
              WHERE h.relkind IN ('r', 'p') AND h.relrowsecurity AND (h.relforcerowsecurity OR NOT h.owned)
                AND NOT me.rolsuper AND NOT me.rolbypassrls),
  'overrides', (
    SELECT coalesce(jsonb_agg(format('%%s in %%s: %%s', coalesce('role ' || r.rolname, 'every role'),
                                     coalesce('database ' || d.datname, 'every database'), setting)), '[]')
      FROM pg_db_role_setting s
      LEFT JOIN pg_roles r ON r.oid = s.setrole
      LEFT JOIN pg_database d ON d.oid = s.setdatabase
      CROSS JOIN LATERAL unnest(s.setconfig) AS setting
     WHERE (d.datname IS NULL OR d.datname = current_database())
       AND setting IN ('synchronous_commit=off', 'synchronous_commit=local')),
  'subscriptions', (SELECT coalesce(jsonb_agg(subname ORDER BY subname), '[]') FROM pg_subscription
                     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())),
  'may_make_synchronous', has_parameter_privilege('synchronous_standby_names', 'ALTER SYSTEM')
                          AND has_function_privilege('pg_reload_conf()', 'EXECUTE'),
  'encoding', (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()),
  'installed', to_regnamespace('ballast') IS NOT NULL,
  'publication', (SELECT jsonb_build_object('all_tables', p.puballtables, 'owned', pg_has_role(p.pubowner, 'USAGE'))
                    FROM pg_publication p WHERE p.pubname = %(publication)s),
  'slot', (SELECT jsonb_build_object('plugin', s.plugin, 'database', s.database, 'active_pid', s.active_pid,
                                     'lost', s.wal_status = 'lost')
             FROM pg_replication_slots s WHERE s.slot_name = %(slot)s),
  -- A new slot waits for every transaction that writes at that moment, in any database.
  'writing_long', (
    SELECT coalesce(jsonb_agg(format('process %%s (%%s, since %%s)', a.pid, coalesce(a.usename, '?'),
                                     date_trunc('second', a.xact_start))), '[]')
      FROM pg_stat_activity a
     WHERE a.backend_xid IS NOT NULL AND a.xact_start < now() - interval '10 s' AND a.pid <> pg_backend_pid()),
  -- Its own tables must not be published, and its nodes not be told what is made for one of them.
  'citus', EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),
  'prepared', (SELECT coalesce(jsonb_agg(gid), '[]') FROM pg_prepared_xacts)
)
