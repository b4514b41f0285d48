-- One JSON document with everything that Catalog in catalog.py describes, in one statement and so of one snapshot.
-- Parameters: schemas (text[], null for all), oid (one table alone, else null), measure_sizes (bool).
--
-- pg_get_expr and pg_table_size lock the table they are given (ACCESS SHARE) and would wait behind an ALTER TABLE.
-- So sizes are measured only when asked for, and expressions are printed without a table wherever they name no
-- columns, which is everywhere but in generated columns.
-- to_jsonb(row) ->> 'column' reads a column that only newer versions have.
WITH RECURSIVE
-- Schemas that hold what belongs to the application. Names that begin with pg_ are PostgreSQL's own.
namespaces AS (
    SELECT oid, nspname
      FROM pg_namespace
     WHERE nspname !~ '^pg_'
       AND nspname <> 'information_schema'
       AND (%(schemas)s::text[] IS NULL OR nspname = ANY (%(schemas)s::text[]))
),
-- Each partition with its direct and its topmost parent.
ancestors AS (
    SELECT i.inhrelid AS oid, i.inhparent AS parent, i.inhparent AS ancestor
      FROM pg_inherits i
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
    UNION ALL
    SELECT a.oid, a.parent, i.inhparent
      FROM ancestors a
      JOIN pg_class c ON c.oid = a.ancestor AND c.relispartition
      JOIN pg_inherits i ON i.inhrelid = a.ancestor
),
partitions AS (
    SELECT a.oid, a.parent, a.ancestor AS root
      FROM ancestors a
      JOIN pg_class c ON c.oid = a.ancestor AND NOT c.relispartition
),
-- The tables that were asked for.
relations AS (
    SELECT c.*, c.xmin AS row_xmin, n.nspname
      FROM pg_class c
      JOIN namespaces n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p')
       AND (%(oid)s::oid IS NULL OR c.oid = %(oid)s::oid)
),
-- Types with what a domain, and a domain over a domain, is made of in the end.
base_types AS (
    SELECT oid, oid AS base, typtype, typbasetype, typtypmod AS typmod
      FROM pg_type
     WHERE typtype = 'd'
    UNION ALL
    SELECT b.oid, t.oid, t.typtype, t.typbasetype, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE b.typmod END
      FROM base_types b
      JOIN pg_type t ON t.oid = b.typbasetype
     WHERE b.typtype = 'd'
),
-- From PostgreSQL 18 a NOT NULL may be declared for new rows only; such a column can hold nulls.
unproved AS (
    SELECT conrelid, conkey[1] AS attnum
      FROM pg_constraint
     WHERE contype = 'n' AND NOT convalidated
),
columns AS (
    SELECT a.attrelid,
           json_agg(json_build_object(
               'attnum', a.attnum,
               'name', a.attname,
               'type', format_type(a.atttypid, a.atttypmod),
               'type_oid', a.atttypid::bigint,
               'type_kind', t.typtype,
               'base_type', format_type(coalesce(b.base, a.atttypid), coalesce(b.typmod, a.atttypmod)),
               'not_null', a.attnotnull AND u.attnum IS NULL,
               'default', pg_get_expr(d.adbin, CASE WHEN a.attgenerated = '' THEN 0 ELSE a.attrelid END),
               'generated', a.attgenerated,
               'identity', a.attidentity,
               'has_missing', a.atthasmissing,
               'missing', array_to_string(a.attmissingval, ''),
               'collation', CASE WHEN a.attcollation <> t.typcollation
                                 THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END
           ) ORDER BY a.attnum) AS listed
      FROM pg_attribute a
      JOIN relations r ON r.oid = a.attrelid
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN base_types b ON b.oid = a.atttypid AND b.typtype <> 'd'
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      LEFT JOIN unproved u ON u.conrelid = a.attrelid AND u.attnum = a.attnum
      LEFT JOIN pg_collation co ON co.oid = a.attcollation
      LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
     WHERE a.attnum > 0 AND NOT a.attisdropped
     GROUP BY a.attrelid
),
-- Indexes that can identify a row; whether all of their columns are NOT NULL is added below.
identifying AS (
    SELECT i.indrelid, i.indexrelid, c.relname, i.indisprimary, i.indisreplident,
           (i.indkey::int2[])[0:i.indnkeyatts - 1] AS attnums
      FROM pg_index i
      JOIN relations r ON r.oid = i.indrelid
      JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indisunique AND i.indimmediate AND i.indisvalid AND i.indislive
       AND i.indpred IS NULL AND i.indexprs IS NULL
),
usable AS (
    SELECT x.indrelid,
           json_agg(json_build_object('name', x.relname, 'oid', x.indexrelid::bigint, 'columns', x.attnums)
                    ORDER BY NOT x.indisprimary, x.relname) AS listed
      FROM identifying x
     WHERE NOT EXISTS (
               SELECT
                 FROM pg_attribute a
                 LEFT JOIN unproved u ON u.conrelid = a.attrelid AND u.attnum = a.attnum
                WHERE a.attrelid = x.indrelid AND a.attnum = ANY (x.attnums)
                  AND (NOT a.attnotnull OR u.attnum IS NOT NULL))
     GROUP BY x.indrelid
),
tables AS (
    SELECT r.oid,
           json_build_object(
               'oid', r.oid::bigint,
               'schema', r.nspname,
               'name', r.relname,
               'kind', r.relkind,
               'persistence', r.relpersistence,
               'is_partition', r.relispartition,
               'root_oid', coalesce(p.root, r.oid)::bigint,
               'parent_oid', p.parent::bigint,
               'partition_bound', pg_get_expr(r.relpartbound, 0),
               'inherits', coalesce((SELECT json_agg(i.inhparent::bigint ORDER BY i.inhseqno)
                                       FROM pg_inherits i
                                      WHERE i.inhrelid = r.oid AND NOT r.relispartition), '[]'),
               'extension', (SELECT e.extname
                               FROM pg_depend d
                               JOIN pg_extension e ON e.oid = d.refobjid
                              WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.objsubid = 0
                                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
               'replica_identity', r.relreplident,
               'identity_columns', coalesce((SELECT to_json(x.attnums)
                                               FROM identifying x
                                              WHERE x.indrelid = r.oid
                                                AND CASE r.relreplident WHEN 'd' THEN x.indisprimary
                                                                        WHEN 'i' THEN x.indisreplident
                                                                        ELSE false END), '[]'),
               'primary_key', coalesce((SELECT to_json((i.indkey::int2[])[0:i.indnkeyatts - 1])
                                          FROM pg_index i
                                         WHERE i.indrelid = r.oid AND i.indisprimary), '[]'),
               'columns', coalesce(c.listed, '[]'),
               'unique_indexes', coalesce(u.listed, '[]'),
               'row_security', r.relrowsecurity,
               'force_row_security', r.relforcerowsecurity,
               'relfilenode', r.relfilenode::bigint,
               'xmin', r.row_xmin::text,
               'estimated_rows', CASE WHEN r.reltuples >= 0 THEN r.reltuples::bigint END,
               'bytes', CASE WHEN %(measure_sizes)s::bool THEN coalesce(pg_table_size(r.oid), 0)
                             ELSE (r.relpages::bigint + coalesce(toast.relpages, 0))
                                  * current_setting('block_size')::bigint END
           ) AS described,
           r.nspname, r.relname
      FROM relations r
      LEFT JOIN partitions p ON p.oid = r.oid
      LEFT JOIN columns c ON c.attrelid = r.oid
      LEFT JOIN usable u ON u.indrelid = r.oid
      LEFT JOIN pg_class toast ON toast.oid = r.reltoastrelid
),
-- A foreign key to a partitioned table has a copy for each of that table's partitions, which only serves its
-- triggers: a row need not be in every one of them. The copies for partitions of the referencing table do count.
foreign_keys AS (
    SELECT json_build_object(
               'name', k.conname,
               'table_oid', k.conrelid::bigint,
               'columns', k.conkey,
               'ref_table_oid', k.confrelid::bigint,
               'ref_columns', k.confkey,
               'deferrable', k.condeferrable,
               'initially_deferred', k.condeferred,
               'on_delete', k.confdeltype,
               'on_update', k.confupdtype,
               'match_full', k.confmatchtype = 'f',
               'validated', k.convalidated,
               'enforced', coalesce((to_jsonb(k) ->> 'conenforced')::bool, true),
               'temporal', coalesce((to_jsonb(k) ->> 'conperiod')::bool, false),
               'inherited', k.conparentid <> 0
           ) AS described,
           r.nspname, r.relname, k.conname
      FROM pg_constraint k
      JOIN relations r ON r.oid = k.conrelid
      LEFT JOIN pg_constraint above ON above.oid = k.conparentid
     WHERE k.contype = 'f' AND above.conrelid IS DISTINCT FROM k.conrelid
),
-- The column that a sequence belongs to: of serial ('a') or of an identity column ('i').
owners AS (
    SELECT objid AS seqrelid, refobjid AS table_oid, refobjsubid AS attnum, deptype
      FROM pg_depend
     WHERE classid = 'pg_class'::regclass AND objsubid = 0
       AND refclassid = 'pg_class'::regclass AND refobjsubid > 0 AND deptype IN ('a', 'i')
),
-- Every column that takes values from a sequence: through its default, or as an identity.
feeds AS (
    SELECT d.refobjid AS seqrelid, a.adrelid AS table_oid, a.adnum AS attnum
      FROM pg_depend d
      JOIN pg_attrdef a ON a.oid = d.objid
     WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
    UNION
    SELECT seqrelid, table_oid, attnum FROM owners WHERE deptype = 'i'
),
sequences AS (
    SELECT json_build_object(
               'schema', n.nspname,
               'name', c.relname,
               'oid', c.oid::bigint,
               'persistence', c.relpersistence,
               'data_type', format_type(s.seqtypid, NULL),
               'start', s.seqstart,
               'increment', s.seqincrement,
               'min', s.seqmin,
               'max', s.seqmax,
               'cache', s.seqcache,
               'cycle', s.seqcycle,
               'owned_by', (SELECT json_build_array(o.table_oid::bigint, o.attnum)
                              FROM owners o WHERE o.seqrelid = c.oid),
               'feeds', coalesce((SELECT json_agg(json_build_array(f.table_oid::bigint, f.attnum)
                                                  ORDER BY f.table_oid, f.attnum)
                                    FROM feeds f WHERE f.seqrelid = c.oid), '[]')
           ) AS described,
           n.nspname, c.relname
      FROM pg_sequence s
      JOIN pg_class c ON c.oid = s.seqrelid
      JOIN namespaces n ON n.oid = c.relnamespace
     WHERE %(oid)s::oid IS NULL
)
SELECT json_build_object(
           'database', d.datname,
           'encoding', pg_encoding_to_char(d.encoding),
           'locale_provider', d.datlocprovider,
           'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate),
           'server_version_num', current_setting('server_version_num')::int,
           'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
           'tables', coalesce((SELECT json_agg(described ORDER BY nspname, relname) FROM tables), '[]'),
           'foreign_keys', coalesce((SELECT json_agg(described ORDER BY nspname, relname, conname)
                                       FROM foreign_keys), '[]'),
           'sequences', coalesce((SELECT json_agg(described ORDER BY nspname, relname) FROM sequences), '[]')
       )::text
  FROM pg_database d
 WHERE d.datname = current_database()
