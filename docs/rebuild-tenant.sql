-- One tenant's rows at a cut, out of a vault, with DuckDB alone: see "Rebuilding a tenant without Ballast" in vault-format.md.
-- Set before: the variables vault (folder), tenant (null: shared rows), timeline and cut (as a number). Writes into the current folder.

CREATE TEMP TABLE asked AS
SELECT getvariable('vault') AS vault, getvariable('tenant')::varchar AS tenant, getvariable('timeline')::int AS timeline,
       getvariable('cut')::bigint AS cut;

-- The ledger; the timelines that lead to the cut, each with the cut up to which it counts; and what of the ledger is theirs.
CREATE TEMP TABLE ledger AS
SELECT number, body, body ->> 'type' AS type, (body ->> 'timeline')::int AS timeline, (body ->> 'lsn')::bigint AS lsn
  FROM read_json(getvariable('vault') || '/ledger/*.json', columns = {number: 'bigint', body: 'json'});
CREATE TEMP TABLE part AS
WITH RECURSIVE line AS (
    SELECT timeline, cut AS until FROM asked
    UNION ALL
    SELECT (l.body ->> 'parent')::int, coalesce((l.body ->> 'fork_lsn')::bigint, 9223372036854775807)
      FROM line JOIN ledger l ON l.type = 'timeline' AND l.timeline = line.timeline
     WHERE (l.body ->> 'parent') IS NOT NULL)
SELECT * FROM line;
CREATE TEMP TABLE entry AS SELECT l.*, p.until FROM ledger l JOIN part p USING (timeline);

-- The structure at the cut, and every version's: relation, its columns, and the order of the fields in a row.
CREATE TEMP TABLE version AS
SELECT (body ->> 'version')::int AS version, timeline, lsn, until, (body ->> 'seq')::bigint AS seq,
       getvariable('vault') || '/' || (body -> 'relations' ->> 'name') AS file
  FROM entry WHERE type = 'schema';
SET VARIABLE files = (SELECT list(file) FROM version);
CREATE TEMP TABLE relation AS
SELECT v.version, (r ->> 'number')::int AS number, r ->> 'schema' AS schema, r ->> 'name' AS name,
       (r -> 'columns')::json[] AS columns, (r -> 'row_columns')::int[] AS row_columns, (r -> 'key')::int[] AS key
  FROM (SELECT v.version, unnest((f.content::json)::json[]) AS r
          FROM version v JOIN read_text(getvariable('files')) f ON f.filename = v.file) v;
CREATE TEMP TABLE target AS
SELECT * FROM relation
 WHERE version = (SELECT version FROM version
                   WHERE lsn < until OR (lsn = until AND seq = 0)
                   ORDER BY timeline DESC, lsn DESC, seq DESC, version DESC LIMIT 1);
CREATE TEMP TABLE target_column AS
SELECT number, position, attnum, c ->> 'name' AS name, CASE WHEN (c ->> 'has_missing')::bool THEN c ->> 'missing' END AS missing
  FROM (SELECT number, unnest(row_columns) AS attnum, generate_subscripts(row_columns, 1) AS position FROM target)
  JOIN (SELECT number, unnest(columns) AS c FROM target) USING (number)
 WHERE (c ->> 'attnum')::int = attnum;

-- Each relation's base: its latest image at or before the cut. Of two timelines the later one is the higher one.
CREATE TEMP TABLE image AS
SELECT number, timeline, lsn, (body ->> 'relations') IS NULL AS whole,
       CASE WHEN (body ->> 'relations') IS NOT NULL THEN (body -> 'relations')::int[] END AS relations
  FROM entry WHERE type = 'image' AND lsn <= until;
CREATE TEMP TABLE base AS
SELECT t.number, max_by(i.number, (i.timeline, i.lsn, i.number)) AS image,
       max({timeline: i.timeline, lsn: i.lsn, seq: 0::bigint}) AS pos
  FROM target t JOIN image i ON i.whole OR list_contains(i.relations, t.number)
 GROUP BY t.number;
CREATE TEMP TABLE run AS
SELECT number AS entry, type, getvariable('vault') || '/' || (r -> 'object' ->> 'name') AS file
  FROM (SELECT number, type, unnest((body -> 'runs')::json[]) AS r FROM entry
         WHERE number IN (SELECT image FROM base)
            OR (type = 'segment' AND (body ->> 'first_lsn')::bigint < until
                AND {timeline: timeline, lsn: (body ->> 'last_lsn')::bigint, seq: 0::bigint} > (SELECT min(pos) FROM base)));
SET VARIABLE files = (SELECT list(DISTINCT file) FROM run);

-- Every version of the tenant's rows that counts: of the base, and of changes after base and truncation, before the cut.
CREATE TEMP TABLE truncation AS
SELECT {timeline: timeline, lsn: lsn, seq: seq} AS pos, unnest(relations) AS relation
  FROM (SELECT timeline, until, (t ->> 'lsn')::bigint AS lsn, (t ->> 'seq')::bigint AS seq, (t -> 'relations')::int[] AS relations
          FROM (SELECT timeline, until, unnest((body -> 'truncations')::json[]) AS t FROM entry WHERE type = 'segment'))
 WHERE lsn < until;
CREATE TEMP TABLE floor AS
SELECT b.number, b.image, count(t.pos) > 0 AS truncated, max(coalesce(t.pos, b.pos)) AS from_on
  FROM base b
  LEFT JOIN truncation t ON t.relation = b.number AND t.pos >= b.pos
 GROUP BY b.number, b.image;
CREATE TEMP TABLE row_version AS
SELECT p.relation, p.key, {timeline: p.timeline, lsn: p.lsn, seq: p.seq} AS pos, p.op::varchar AS op, p.schema, rtrim(decode(p.row), chr(10)) AS line, p.missing, p.before_key
  FROM read_parquet(getvariable('files'), filename = true) p
  JOIN run r ON r.file = p.filename
  JOIN floor f ON f.number = p.relation
  JOIN part ON part.timeline = p.timeline
 WHERE p.tenant IS NOT DISTINCT FROM (SELECT tenant FROM asked)
   AND CASE WHEN r.type = 'image' THEN r.entry = f.image AND NOT f.truncated
            ELSE {timeline: p.timeline, lsn: p.lsn, seq: p.seq} >= f.from_on AND p.lsn < part.until END;
SELECT error('a patch whose key or tenant changed: see vault-format.md') FROM row_version WHERE before_key IS NOT NULL LIMIT 1;

-- With a key: the last version stays unless it is a delete. Without: inserts minus deletes of equal rows.
CREATE TEMP TABLE ranked AS
SELECT *, row_number() OVER (PARTITION BY relation, key ORDER BY pos DESC, op = 'D') AS place,
       max(CASE WHEN op IN ('I', 'U') THEN pos END) OVER (PARTITION BY relation, key) AS last_whole
  FROM row_version;
CREATE TEMP TABLE living AS
SELECT r.relation, r.key, 1 AS copies FROM ranked r JOIN target t ON t.number = r.relation
 WHERE len(t.key) > 0 AND place = 1 AND op <> 'D'
UNION ALL
SELECT v.relation, v.key, sum(CASE op WHEN 'D' THEN -1 ELSE 1 END)::int FROM row_version v JOIN target t ON t.number = v.relation
 WHERE len(t.key) = 0 GROUP BY v.relation, v.key HAVING sum(CASE op WHEN 'D' THEN -1 ELSE 1 END) > 0;

-- Field by field, by attnum: the newest value that a version really had.
CREATE TEMP TABLE field AS
SELECT relation, key, pos, attnum, value
  FROM (SELECT v.relation, v.key, v.pos, v.missing, unnest(s.row_columns) AS attnum, unnest(string_split(v.line, chr(9))) AS value
          FROM ranked v
          JOIN living l USING (relation, key)
          JOIN relation s ON s.number = v.relation AND s.version = v.schema
         WHERE v.op <> 'D' AND v.pos >= v.last_whole)
 WHERE NOT coalesce(list_contains(missing, attnum), false);
CREATE TEMP TABLE value AS
SELECT relation, key, attnum, max_by(value, pos) AS value FROM field GROUP BY relation, key, attnum;
CREATE TEMP TABLE line AS
SELECT l.relation, l.key, l.copies,
       string_agg(coalesce(v.value, replace(replace(replace(c.missing, '\', '\\'), chr(9), '\t'), chr(10), '\n'), '\N'),
                  chr(9) ORDER BY c.position) AS line
  FROM living l
  JOIN target_column c ON c.number = l.relation
  LEFT JOIN value v ON v.relation = l.relation AND v.key = l.key AND v.attnum = c.attnum
 GROUP BY l.relation, l.key, l.copies;

-- What psql loads: the lines of each table between COPY … FROM stdin and \.
COPY (
    SELECT text FROM (
        SELECT number, 0 AS part, 0 AS nth, 'COPY "' || schema || '"."' || name || '" (' ||
               (SELECT string_agg('"' || c.name || '"', ', ' ORDER BY position) FROM target_column c WHERE c.number = t.number) ||
               ') FROM stdin;' AS text
          FROM target t WHERE number IN (SELECT relation FROM line)
        UNION ALL
        SELECT relation, 1, row_number() OVER (), line FROM line, range(copies)
        UNION ALL
        SELECT DISTINCT relation, 2, 0, '\.' FROM line)
     ORDER BY number, part, nth)
  TO 'rows.sql' (FORMAT csv, DELIMITER E'\x01', QUOTE '', ESCAPE '', HEADER false);
COPY (
    SELECT getvariable('vault') || '/' || (body -> part ->> 'name')
      FROM (SELECT body FROM entry
             WHERE type = 'dump' AND (body ->> 'version')::int IN (SELECT version FROM version WHERE lsn <= until)
               AND (body ->> 'version')::int <= (SELECT any_value(version) FROM target)
             -- Of one version the last dump before the cut, or else the first after it.
             ORDER BY (body ->> 'version')::int DESC, lsn <= until DESC,
                      CASE WHEN lsn <= until THEN timeline ELSE -timeline END DESC,
                      CASE WHEN lsn <= until THEN lsn ELSE -lsn END DESC LIMIT 1),
           (VALUES (1, 'pre_data'), (2, 'post_data')) AS p (n, part)
     ORDER BY n)
  TO 'structure.txt' (FORMAT csv, DELIMITER E'\x01', QUOTE '', ESCAPE '', HEADER false);
