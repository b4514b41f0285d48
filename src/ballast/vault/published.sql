-- The tables whose changes the publication sends, as schema.table.
SELECT n.nspname || '.' || c.relname
  FROM pg_publication p
 CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t
  JOIN pg_class c ON c.oid = t.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.pubname = %(publication)s
