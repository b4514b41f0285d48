-- CASE: the server may look at the condition first, for every relation, and then refuses those that are no sequence.
-- Every sequence of the application with its value. No last_value: never used, or set by setval(…, false).
SELECT n.nspname, c.relname, pg_sequence_last_value(c.oid), s.seqincrement, s.seqcache,
       format('%I.%I', n.nspname, c.relname) AS quoted
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p'
  AND n.nspname NOT IN ('ballast', 'ballast_recovery', 'ballast_restore', 'pg_catalog', 'information_schema')
  AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END
ORDER BY 1, 2
