-- What stands around the rows, a line each: kind, what it is (for people), its table, definition, state.
-- Without what belongs to PostgreSQL, to an extension, or to Ballast itself: a restored server gets its own of that.
WITH RECURSIVE
place AS (
    SELECT oid, nspname, nspowner, nspacl
      FROM pg_namespace
     WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'ballast', 'ballast_recovery', 'ballast_restore')),
brought AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
relation AS (
    SELECT c.*, format('%s.%s', n.nspname, c.relname) AS named
      FROM pg_class c JOIN place n ON n.oid = c.relnamespace
     WHERE c.relpersistence <> 't'
       AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_class'::regclass AND b.objid = c.oid)),
routine AS (
    SELECT p.*, format('%s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS named
      FROM pg_proc p JOIN place n ON n.oid = p.pronamespace
     WHERE NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_proc'::regclass AND b.objid = p.oid)),
-- Of most objects nobody has said anything: then the owner and PUBLIC have what is usual.
owned AS (
    SELECT 'schema ' || nspname AS what, '' AS of_table, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl
      FROM place
    UNION ALL
    SELECT named, named, relowner,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
      FROM relation WHERE relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    SELECT 'function ' || named, '', proowner, coalesce(proacl, acldefault('f', proowner)) FROM routine),
granted AS (
    SELECT what, of_table, acl FROM owned
    UNION ALL
    SELECT format('column %s.%s', c.named, a.attname), c.named, a.attacl
      FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL
    UNION ALL
    SELECT format('what %s makes later%s (%s)', pg_get_userbyid(d.defaclrole), ' in ' || n.nspname, d.defaclobjtype), '',
           d.defaclacl
      FROM pg_default_acl d LEFT JOIN place n ON n.oid = d.defaclnamespace
     WHERE d.defaclnamespace = 0 OR n.oid IS NOT NULL),
item AS (SELECT g.what, g.of_table, x.* FROM granted g CROSS JOIN LATERAL aclexplode(g.acl) AS x),
policy AS (SELECT p.*, c.named FROM pg_policy p JOIN relation c ON c.oid = p.polrelid),
-- The cluster's other roles serve other databases.
concerned AS (
    SELECT named.oid FROM (SELECT owner FROM owned UNION SELECT grantee FROM item UNION SELECT unnest(polroles) FROM policy)
        AS named (oid)
    UNION
    SELECT m.member FROM concerned r JOIN pg_auth_members m ON m.roleid = r.oid)

SELECT 'row-level security', 'row-level security of ' || named, named,
       CASE WHEN relrowsecurity THEN 'on' ELSE 'off' END || CASE WHEN relforcerowsecurity THEN ' and forced' ELSE '' END, ''
  FROM relation WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 'policy', format('policy "%s" of %s', polname, named), named,
       concat_ws(' ', CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                 'FOR ' || CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                       WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                 'TO ' || (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END, ', '
                                             ORDER BY CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END)
                             FROM unnest(polroles) AS r),
                 'USING (' || pg_get_expr(polqual, polrelid) || ')', 'CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')'),
       ''
  FROM policy
UNION ALL
SELECT 'trigger', format('trigger "%s" of %s', t.tgname, c.named), c.named, pg_get_triggerdef(t.oid),
       CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always' WHEN 'R' THEN 'enabled on replicas'
                        ELSE 'enabled' END
  FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'rule', format('rule "%s" of %s', r.rulename, c.named), c.named, pg_get_ruledef(r.oid),
       CASE r.ev_enabled WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always' WHEN 'R' THEN 'enabled on replicas'
                         ELSE 'enabled' END
  FROM pg_rewrite r JOIN relation c ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'event trigger', format('event trigger "%s"', evtname), '',
       format('ON %s%s EXECUTE %s', evtevent, ' FOR ' || array_to_string(evttags, ', '), evtfoid::regproc),
       CASE evtenabled WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always' WHEN 'R' THEN 'enabled on replicas'
                       ELSE 'enabled' END
  FROM pg_event_trigger e
 WHERE evtname NOT IN ('ballast_ddl', 'ballast_drop', 'ballast_rewrite')
   AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_event_trigger'::regclass AND b.objid = e.oid)
UNION ALL
SELECT 'constraint', format('constraint "%s" of %s', k.conname, c.named), c.named,
       regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''),
       CASE WHEN k.convalidated THEN 'valid' ELSE 'NOT VALID' END
  FROM pg_constraint k JOIN relation c ON c.oid = k.conrelid
 WHERE k.contype <> 't' AND k.conparentid = 0
UNION ALL
-- One that is not valid is left behind by a build that failed: a dump passes it over.
SELECT 'index', format('index "%s" of %s', i.relname, c.named), c.named, pg_get_indexdef(x.indexrelid), ''
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN relation c ON c.oid = x.indrelid
 WHERE x.indisvalid OR i.relkind = 'I'
UNION ALL
SELECT 'column', format('column %s.%s', c.named, a.attname), c.named,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
                 CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                 CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
                 CASE a.attgenerated WHEN 's' THEN 'STORED' WHEN 'v' THEN 'VIRTUAL' END,
                 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)), ''
  FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'view', 'view ' || named, named,
       concat_ws(' ', CASE relkind WHEN 'm' THEN 'MATERIALIZED' END, 'WITH (' || array_to_string(reloptions, ', ') || ')',
                 'AS' || pg_get_viewdef(oid)), ''
  FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'function', 'function ' || p.named, '',
       CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid)
            ELSE format('AGGREGATE %s, %s, %s', a.aggtransfn, a.aggfinalfn, a.agginitval) END, ''
  FROM routine p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
UNION ALL
SELECT 'owner', 'owner of ' || what, of_table, pg_get_userbyid(owner), '' FROM owned
UNION ALL
SELECT 'rights', format('rights of %s on %s', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END, what),
       of_table,
       string_agg(DISTINCT privilege_type || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', '), ''
  FROM item GROUP BY what, of_table, grantee
UNION ALL
-- Nothing is said of the cluster's first superuser: each server has its own, perhaps under a name that is another role's here.
SELECT 'role', 'role ' || rolname, '',
       CASE WHEN oid <> 10 THEN concat_ws(', ', CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
            CASE WHEN rolinherit THEN 'INHERIT' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
            CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcanlogin THEN 'LOGIN' END,
            CASE WHEN rolreplication THEN 'REPLICATION' END) END, ''
  FROM pg_roles WHERE oid IN (SELECT oid FROM concerned) AND rolname !~ '^pg_'
UNION ALL
SELECT 'membership', format('membership of %s in %s', pg_get_userbyid(member), pg_get_userbyid(roleid)), '',
       CASE WHEN bool_or(admin_option) THEN 'WITH ADMIN OPTION' ELSE '' END, ''
  FROM pg_auth_members WHERE member IN (SELECT oid FROM concerned) AND pg_get_userbyid(member) !~ '^pg_'
 GROUP BY member, roleid
UNION ALL
-- What a role has for itself in this database alone is the database's.
-- A value may be a secret: it is held side by side, and never shown.
SELECT 'setting', format('settings of role %s', r.rolname), '',
       (SELECT string_agg(split_part(one, '=', 1), ', ' ORDER BY one) FROM unnest(s.setconfig) AS one),
       (SELECT array_agg(one ORDER BY one)::text FROM unnest(s.setconfig) AS one)
  FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
 WHERE s.setdatabase = 0 AND r.oid <> 10 AND r.oid IN (SELECT oid FROM concerned)
