-- What Ballast puts on production: the schema `ballast`, and event triggers that call its functions.
-- Run as one transaction, and again at will: it brings any state to this one. `unserver.sql` takes it away.
--
-- Functions run as their owner, the role that protects, with a search path that nobody can put anything into.
-- The triggers never fail the command that fired them: what goes wrong inside becomes a WARNING and a message that
-- says so, on which the recorder reads the catalog.

CREATE SCHEMA IF NOT EXISTS ballast;
COMMENT ON SCHEMA ballast IS 'Ballast: protection of this database. Removed by `ballast unprotect`.';

-- A row with a fresh nonce goes through the whole path every few seconds and proves that it is open.
CREATE TABLE IF NOT EXISTS ballast.canary (
    id int PRIMARY KEY,
    nonce text NOT NULL,
    at timestamptz NOT NULL
);

-- What the triggers must know: the tenant column, and for each table the columns that a DELETE must carry.
CREATE TABLE IF NOT EXISTS ballast.setting (
    name text PRIMARY KEY,
    value jsonb NOT NULL
);

-- Replica identities that were changed: what they were, and what they were set to.
CREATE TABLE IF NOT EXISTS ballast.identity (
    relation oid PRIMARY KEY,
    name text NOT NULL,
    was "char" NOT NULL,
    was_index text,
    set_to "char" NOT NULL,
    set_index text,
    at timestamptz NOT NULL DEFAULT now()
);

-- Tables in the words of TableFacts (tables.py), as this transaction sees them.
CREATE OR REPLACE FUNCTION ballast.describe(relations oid[]) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmloption = 'content'
SET quote_all_identifiers = off
AS $body$
WITH RECURSIVE
asked AS (
    SELECT c.*, n.nspname
      FROM unnest(relations) AS a (oid)
      JOIN pg_class c ON c.oid = a.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
),
-- Each partition's ancestors; the topmost is no partition.
ancestors AS (
    SELECT i.inhrelid AS oid, i.inhparent AS ancestor
      FROM asked c
      JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE c.relispartition
    UNION ALL
    SELECT a.oid, i.inhparent
      FROM ancestors a
      JOIN pg_class c ON c.oid = a.ancestor AND c.relispartition
      JOIN pg_inherits i ON i.inhrelid = a.ancestor
),
roots AS (
    SELECT c.oid, coalesce(r.oid, c.oid) AS root, coalesce(n.nspname, c.nspname) AS root_schema,
           coalesce(r.relname, c.relname) AS root_name
      FROM asked c
      LEFT JOIN (ancestors a JOIN pg_class r ON r.oid = a.ancestor AND NOT r.relispartition) ON a.oid = c.oid
      LEFT JOIN pg_namespace n ON n.oid = r.relnamespace
),
unproved AS (
    SELECT conrelid, conkey[1] AS attnum
      FROM pg_constraint
     WHERE conrelid = ANY (relations) AND contype = 'n' AND NOT convalidated
),
identifying AS (
    SELECT i.indrelid, x.relname, i.indisprimary, i.indisreplident, (i.indkey::int2[])[0:i.indnkeyatts - 1] AS attnums
      FROM pg_index i
      JOIN pg_class x ON x.oid = i.indexrelid
     WHERE i.indrelid = ANY (relations)
       AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indislive
       AND i.indpred IS NULL AND i.indexprs IS NULL
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'oid', c.oid::bigint,
    'schema', c.nspname,
    'name', c.relname,
    'kind', c.relkind,
    'persistence', c.relpersistence,
    'is_partition', c.relispartition,
    'root_oid', r.root::bigint,
    'root_schema', r.root_schema,
    'root_name', r.root_name,
    'replica_identity', c.relreplident,
    'identity_columns', coalesce((SELECT to_jsonb(x.attnums)
                                    FROM identifying x
                                   WHERE x.indrelid = c.oid
                                     AND CASE c.relreplident WHEN 'd' THEN x.indisprimary
                                                             WHEN 'i' THEN x.indisreplident
                                                             ELSE false END), '[]'),
    'primary_key', coalesce((SELECT to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1])
                               FROM pg_index i
                              WHERE i.indrelid = c.oid AND i.indisprimary), '[]'),
    'columns', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
                   'attnum', a.attnum,
                   'name', a.attname,
                   'type', format_type(a.atttypid, a.atttypmod),
                   'not_null', a.attnotnull AND u.attnum IS NULL,
                   'default', pg_get_expr(d.adbin, CASE WHEN a.attgenerated = '' THEN 0 ELSE a.attrelid END),
                   'generated', a.attgenerated,
                   'identity', a.attidentity,
                   'has_missing', a.atthasmissing,
                   'missing', array_to_string(a.attmissingval, ''),
                   'root_attnum', CASE WHEN c.relispartition THEN b.attnum END) ORDER BY a.attnum)
          FROM pg_attribute a
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          LEFT JOIN unproved u ON u.conrelid = a.attrelid AND u.attnum = a.attnum
          LEFT JOIN pg_attribute b ON b.attrelid = r.root AND b.attname = a.attname
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
    'foreign_keys', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
                   'name', k.conname,
                   'columns', k.conkey,
                   'ref_table_oid', k.confrelid::bigint,
                   'ref_columns', k.confkey,
                   'enforced', coalesce((to_jsonb(k) ->> 'conenforced')::bool, true),
                   'temporal', coalesce((to_jsonb(k) ->> 'conperiod')::bool, false)) ORDER BY k.conname)
          FROM pg_constraint k
          LEFT JOIN pg_constraint above ON above.oid = k.conparentid
         WHERE k.conrelid = c.oid AND k.contype = 'f' AND above.conrelid IS DISTINCT FROM k.conrelid), '[]'),
    'unique_indexes', coalesce((
        SELECT jsonb_agg(jsonb_build_object('name', x.relname, 'columns', x.attnums)
                         ORDER BY NOT x.indisprimary, x.relname)
          FROM identifying x
         WHERE x.indrelid = c.oid
           AND NOT EXISTS (
                   SELECT
                     FROM pg_attribute a
                     LEFT JOIN unproved u ON u.conrelid = a.attrelid AND u.attnum = a.attnum
                    WHERE a.attrelid = c.oid AND a.attnum = ANY (x.attnums)
                      AND (NOT a.attnotnull OR u.attnum IS NOT NULL))), '[]'),
    'extension', (SELECT e.extname
                    FROM pg_depend d
                    JOIN pg_extension e ON e.oid = d.refobjid
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                     AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
    'leaves', CASE WHEN c.relkind = 'p' AND NOT c.relispartition
                   THEN coalesce((SELECT jsonb_agg(t.relid::oid::bigint)
                                    FROM pg_partition_tree(c.oid) t WHERE t.isleaf), '[]')
                   ELSE '[]' END
) ORDER BY c.nspname, c.relname), '[]')
  FROM asked c
  JOIN roots r ON r.oid = c.oid
 WHERE c.nspname NOT IN ('ballast', 'ballast_recovery', 'ballast_restore')
$body$;

-- attnums of the columns that a DELETE of this table must carry so that the row's tenant can be told.
CREATE OR REPLACE FUNCTION ballast.needed_columns(relation oid) RETURNS int2[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    root oid := coalesce(pg_partition_root(relation::regclass)::oid, relation);
    root_name text;
    declared jsonb;
    wanted text[];
BEGIN
    SELECT n.nspname || '.' || c.relname INTO root_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = root;
    SELECT s.value -> root_name INTO declared FROM ballast.setting s WHERE s.name = 'needs';
    IF declared IS NOT NULL THEN
        wanted := ARRAY(SELECT jsonb_array_elements_text(declared));
    ELSE
        SELECT ARRAY[s.value #>> '{}'] INTO wanted FROM ballast.setting s WHERE s.name = 'tenant_column';
    END IF;
    IF declared IS NOT NULL OR EXISTS (
        SELECT FROM pg_attribute a
         WHERE a.attrelid = relation AND a.attname = wanted[1] AND a.attnum > 0 AND NOT a.attisdropped)
    THEN
        RETURN ARRAY(SELECT a.attnum FROM pg_attribute a
                      WHERE a.attrelid = relation AND a.attname = ANY (wanted)
                        AND a.attnum > 0 AND NOT a.attisdropped);
    END IF;
    -- Nobody has said anything of it: whichever foreign key leads to its tenant, its columns are there.
    RETURN ARRAY(SELECT DISTINCT unnest(k.conkey) FROM pg_constraint k
                  WHERE k.conrelid = relation AND k.contype = 'f' AND k.confrelid <> relation);
END
$body$;

-- Gives a published table a replica identity with which it can be written to and every DELETE tells the tenant.
-- Says what was done, or null. The least costly first: the primary key, a unique index, the whole row.
CREATE OR REPLACE FUNCTION ballast.settle_identity(relation oid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $body$
DECLARE
    needed int2[];
    t record;
    chosen record;
    ours boolean;
    new_identity "char";
    command text;
BEGIN
    SELECT c.relreplident AS identity, n.nspname, c.relname,
           (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = c.oid AND i.indisreplident) AS identity_index
      INTO t
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = relation AND c.relkind = 'r' AND c.relpersistence = 'p'
       AND n.nspname NOT IN ('ballast', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    ours := EXISTS (SELECT FROM ballast.identity i WHERE i.relation = settle_identity.relation AND i.set_to = t.identity);
    IF t.identity = 'f' AND NOT ours THEN
        RETURN NULL;
    END IF;
    needed := ballast.needed_columns(relation);
    SELECT x.relname, i.indisprimary
      INTO chosen
      FROM pg_index i
      JOIN pg_class x ON x.oid = i.indexrelid
     WHERE i.indrelid = relation
       AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indislive
       AND i.indpred IS NULL AND i.indexprs IS NULL
       AND needed <@ (i.indkey::int2[])[0:i.indnkeyatts - 1]
       AND NOT EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = relation AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                          AND (NOT a.attnotnull OR EXISTS (
                                  SELECT FROM pg_constraint k
                                   WHERE k.conrelid = relation AND k.contype = 'n'
                                     AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated)))
     ORDER BY CASE t.identity WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END DESC,
              i.indisprimary DESC, i.indnkeyatts, x.relname
     LIMIT 1;
    IF NOT FOUND THEN
        new_identity := 'f';
        command := 'FULL';
    ELSIF t.identity = 'i' AND chosen.relname = t.identity_index THEN
        RETURN NULL;
    ELSIF chosen.indisprimary THEN
        new_identity := 'd';
        command := 'DEFAULT';
    ELSE
        new_identity := 'i';
        command := format('USING INDEX %I', chosen.relname);
    END IF;
    IF new_identity = t.identity AND new_identity <> 'i' THEN
        RETURN NULL;
    END IF;
    INSERT INTO ballast.identity AS i (relation, name, was, was_index, set_to, set_index)
    VALUES (relation, format('%I.%I', t.nspname, t.relname), t.identity, t.identity_index, new_identity,
            CASE WHEN new_identity = 'i' THEN chosen.relname END)
    ON CONFLICT ON CONSTRAINT identity_pkey
    DO UPDATE SET set_to = excluded.set_to, set_index = excluded.set_index, name = excluded.name, at = now();
    EXECUTE format('ALTER TABLE ONLY %I.%I REPLICA IDENTITY %s', t.nspname, t.relname, command);
    DELETE FROM ballast.identity i
     WHERE i.relation = settle_identity.relation AND i.was = i.set_to AND i.was_index IS NOT DISTINCT FROM i.set_index;
    RETURN command;
END
$body$;

-- Every table that this transaction has touched in pg_class, and perhaps some that later ones have.
CREATE OR REPLACE FUNCTION ballast.touched() RETURNS oid[]
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT coalesce(array_agg(c.oid), '{}')
  FROM pg_class c
 WHERE c.relkind IN ('r', 'p') AND age(c.xmin) <= age(pg_current_xact_id()::xid)
$body$;

-- These tables with all that follows from a change of them: those below, and the partitioned table at the top.
CREATE OR REPLACE FUNCTION ballast.with_partitions(relations oid[]) RETURNS oid[]
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
WITH RECURSIVE below AS (
    SELECT c.oid FROM pg_class c
     WHERE c.oid = ANY (relations) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    UNION
    SELECT i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid
)
SELECT coalesce(array_agg(oid), '{}')
  FROM (SELECT oid FROM below
        UNION
        SELECT pg_partition_root(b.oid) FROM below b JOIN pg_class c ON c.oid = b.oid WHERE c.relispartition) AS every
$body$;

-- Settles the identity of each; one that cannot be settled does not keep the others from it. Says what went wrong.
CREATE OR REPLACE FUNCTION ballast.settle_identities(relations oid[]) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    relation oid;
    done text;
    failures text := '';
BEGIN
    FOREACH relation IN ARRAY relations LOOP
        BEGIN
            done := ballast.settle_identity(relation);
            IF done IS NOT NULL THEN
                RAISE DEBUG 'ballast: % now has REPLICA IDENTITY %', relation::regclass, done;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            failures := failures || format('replica identity of %s: %s. ', relation::regclass, SQLERRM);
        END;
    END LOOP;
    RETURN failures;
END
$body$;

-- Puts a message into the stream, inside of this transaction. Texts are UTF-8 whatever the database's encoding.
CREATE OR REPLACE FUNCTION ballast.tell(message jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    before text := current_setting('ballast.n', true);
    n int := CASE WHEN before ~ '^[0-9]{1,8}$' THEN before::int ELSE 0 END + 1;
    command text := coalesce(current_query(), '');
    token text;
BEGIN
    BEGIN
        SELECT s.value #>> '{}' INTO token FROM ballast.setting s WHERE s.name = 'token';
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'ballast cannot read its settings: %', SQLERRM;
    END;
    -- What is told is kept for ever. The tag alone does not tell: the text has what was sent along with the command.
    IF message ->> 'tag' ~ '(USER MAPPING|SERVER|SUBSCRIPTION|FOREIGN DATA WRAPPER|ROLE)$'
       OR command ~* '(passw|secret|user.*mapping|subscription|[[:<:]]server[[:>:]]|://[^[:space:]/@]*:[^[:space:]/@]*@)'
    THEN
        command := '';
    END IF;
    PERFORM set_config('ballast.n', n::text, true);
    -- Anybody may write a message like this one; the token says that it is ours.
    PERFORM pg_logical_emit_message(true, 'ballast.ddl', convert_to((message || jsonb_build_object(
        'n', n, 'user', session_user, 'command', left(command, 100000), 'token', coalesce(token, '')))::text, 'UTF8'));
END
$body$;

-- What could not be described is told all the same, so that the recorder looks for itself.
CREATE OR REPLACE FUNCTION ballast.tell_failure(event text, tag text, failure text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    RAISE WARNING 'ballast could not record what % changed: %', tag, failure
        USING HINT = 'The command itself is done. Ballast reads the catalog instead; see `ballast status`.';
    PERFORM ballast.tell(jsonb_build_object('event', event, 'tag', tag, 'failed', failure));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'ballast could not say so either: %', SQLERRM;
END
$body$;

-- Whether this transaction has changed anything that outlasts the session: GRANT does not say what it was about.
CREATE OR REPLACE FUNCTION ballast.has_lasting() RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT EXISTS (SELECT FROM pg_class c
                WHERE c.relpersistence <> 't' AND age(c.xmin) <= age(pg_current_xact_id()::xid))
    OR EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                WHERE c.relpersistence <> 't' AND age(a.xmin) <= age(pg_current_xact_id()::xid))
    OR EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname !~ '^pg_temp_' AND age(p.xmin) <= age(pg_current_xact_id()::xid))
    OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                WHERE n.nspname !~ '^pg_(toast_)?temp_' AND age(t.xmin) <= age(pg_current_xact_id()::xid))
$body$;

CREATE OR REPLACE FUNCTION ballast.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    objects jsonb;
    relations oid[];
    failures text;
BEGIN
    -- Temporary tables come and go by the thousand, and are nobody's concern.
    SELECT coalesce(jsonb_agg(jsonb_build_array(c.object_type, coalesce(c.object_identity, '')))
                      FILTER (WHERE c.place <= 100), '[]'),
           coalesce(array_agg(DISTINCT CASE
               WHEN c.classid = 'pg_class'::regclass AND k.relkind IN ('i', 'I') THEN x.indrelid
               WHEN c.classid = 'pg_class'::regclass THEN c.objid
               WHEN c.classid = 'pg_constraint'::regclass THEN n.conrelid
           END), '{}')
      INTO objects, relations
      FROM (SELECT row_number() OVER () AS place, * FROM pg_event_trigger_ddl_commands()) AS c
      LEFT JOIN pg_class k ON c.classid = 'pg_class'::regclass AND k.oid = c.objid
      LEFT JOIN pg_index x ON c.classid = 'pg_class'::regclass AND x.indexrelid = c.objid
      LEFT JOIN pg_constraint n ON c.classid = 'pg_constraint'::regclass AND n.oid = c.objid
      LEFT JOIN pg_policy y ON c.classid = 'pg_policy'::regclass AND y.oid = c.objid
      LEFT JOIN pg_trigger t ON c.classid = 'pg_trigger'::regclass AND t.oid = c.objid
      LEFT JOIN pg_rewrite w ON c.classid = 'pg_rewrite'::regclass AND w.oid = c.objid
      LEFT JOIN pg_statistic_ext s ON c.classid = 'pg_statistic_ext'::regclass AND s.oid = c.objid
      LEFT JOIN pg_class o ON o.oid = coalesce(k.oid, y.polrelid, t.tgrelid, w.ev_class, s.stxrelid)
     WHERE c.schema_name IS DISTINCT FROM 'pg_temp' AND o.relpersistence IS DISTINCT FROM 't';
    IF objects = '[]' THEN
        RETURN;
    END IF;
    IF tg_tag IN ('GRANT', 'REVOKE')
       AND objects -> 0 ->> 0 IN ('TABLE', 'SEQUENCE', 'FUNCTION', 'PROCEDURE', 'ROUTINE', 'TYPE', 'DOMAIN')
       AND NOT ballast.has_lasting()
    THEN
        RETURN;
    END IF;

    -- A renamed schema or type shows in every table that lies in it or uses it.
    IF tg_tag IN ('ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN') THEN
        relations := relations || ARRAY(
            SELECT k.oid
              FROM pg_event_trigger_ddl_commands() c
              JOIN pg_class k ON c.classid = 'pg_namespace'::regclass AND k.relnamespace = c.objid
                              AND k.relkind IN ('r', 'p')
            UNION
            SELECT a.attrelid
              FROM pg_event_trigger_ddl_commands() c
              JOIN pg_type t ON c.classid = 'pg_type'::regclass AND c.objid IN (t.oid, t.typelem, t.typbasetype)
              JOIN pg_attribute a ON a.atttypid = t.oid AND a.attnum > 0);
    END IF;
    -- DETACH names the partitioned table alone, and what is detached is no longer below it.
    IF tg_tag = 'ALTER TABLE' AND EXISTS (
        SELECT FROM pg_class k WHERE k.oid = ANY (relations) AND k.relkind = 'p')
    THEN
        relations := relations || ballast.touched();
    END IF;
    relations := ballast.with_partitions(relations);

    -- Told first: settling an identity is an ALTER TABLE, whose own message must find a table that is known.
    BEGIN
        PERFORM ballast.tell(jsonb_build_object(
            'event', 'ddl', 'tag', tg_tag, 'objects', objects, 'relations', ballast.describe(relations)));
    EXCEPTION WHEN OTHERS THEN
        failures := SQLERRM;  -- the identities are settled all the same
    END;
    failures := coalesce(failures, '') || ballast.settle_identities(relations);
    IF failures <> '' THEN
        PERFORM ballast.tell_failure('ddl', tg_tag, failures);
    END IF;
EXCEPTION WHEN OTHERS THEN
    PERFORM ballast.tell_failure('ddl', tg_tag, SQLERRM);
END
$body$;

CREATE OR REPLACE FUNCTION ballast.on_drop() RETURNS event_trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    objects jsonb;
    dropped oid[];
    relations oid[];
    failures text;
BEGIN
    SELECT coalesce(jsonb_agg(jsonb_build_array(d.object_type, coalesce(d.object_identity, '')))
                      FILTER (WHERE d.place <= 100), '[]'),
           coalesce(array_agg(d.objid) FILTER (WHERE d.object_type = 'table'), '{}'),
           coalesce(array_agg(DISTINCT d.objid) FILTER (WHERE d.object_type = 'table column'), '{}')
      INTO objects, dropped, relations
      FROM (SELECT row_number() OVER () AS place, * FROM pg_event_trigger_dropped_objects()) AS d
     -- Of what is dropped along with a temporary table, such as its triggers, only the name says that it was one.
     WHERE NOT d.is_temporary AND d.address_names[1] IS DISTINCT FROM 'pg_temp';
    IF objects = '[]' THEN
        RETURN;
    END IF;
    -- An index that was a replica identity leaves a table that cannot be written to.
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.object_type IN ('index', 'table constraint')) THEN
        relations := relations || ARRAY(
            SELECT c.oid
              FROM pg_class c
             WHERE c.relkind = 'r' AND c.relpersistence = 'p'
               AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
               AND CASE c.relreplident
                       WHEN 'i' THEN NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
                       WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
                       ELSE false
                   END);
    END IF;
    DELETE FROM ballast.identity i WHERE i.relation = ANY (dropped);
    relations := ballast.with_partitions(relations);
    failures := ballast.settle_identities(relations);
    IF tg_tag LIKE 'DROP %' OR dropped <> '{}' THEN
        BEGIN
            PERFORM ballast.tell(jsonb_build_object(
                'event', 'drop', 'tag', tg_tag, 'objects', objects, 'dropped', to_jsonb(dropped::bigint[]),
                'relations', ballast.describe(relations)));
        EXCEPTION WHEN OTHERS THEN
            failures := failures || SQLERRM;
        END;
    END IF;
    IF failures <> '' THEN
        PERFORM ballast.tell_failure('drop', tg_tag, failures);
    END IF;
EXCEPTION WHEN OTHERS THEN
    PERFORM ballast.tell_failure('drop', tg_tag, SQLERRM);
END
$body$;

CREATE OR REPLACE FUNCTION ballast.on_rewrite() RETURNS event_trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    -- Reason 8 alone is another access method: the same rows.
    IF pg_event_trigger_table_rewrite_reason() = 8 OR EXISTS (
        SELECT FROM pg_class c
         WHERE c.oid = pg_event_trigger_table_rewrite_oid() AND (c.relpersistence = 't' OR c.relkind <> 'r'))
    THEN
        RETURN;
    END IF;
    PERFORM ballast.tell(jsonb_build_object(
        'event', 'rewrite', 'tag', tg_tag,
        'objects', jsonb_build_array(jsonb_build_array(
            'table', pg_event_trigger_table_rewrite_oid()::regclass::text)),
        'rewritten', jsonb_build_array(pg_event_trigger_table_rewrite_oid()::bigint)));
EXCEPTION WHEN OTHERS THEN
    PERFORM ballast.tell_failure('rewrite', tg_tag, SQLERRM);
END
$body$;

-- New functions may be run by everybody; these by nobody but their owner. Event triggers need no right to run.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ballast FROM PUBLIC;
REVOKE ALL ON SCHEMA ballast FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ballast FROM PUBLIC;
-- While a recovery puts tenants back, every application asks for them by this one.
DO $do$
BEGIN
    IF to_regprocedure('ballast.ensure_tenant(text, interval)') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA ballast TO PUBLIC;
        GRANT EXECUTE ON FUNCTION ballast.ensure_tenant(text, interval) TO PUBLIC;
    END IF;
END
$do$;
