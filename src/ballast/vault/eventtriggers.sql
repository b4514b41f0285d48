-- The event triggers, apart from the rest since only a superuser (or who is given the right) may make them.
-- ENABLE ALWAYS: otherwise a session with session_replication_role = replica changes tables unheard.
-- One that is there already as it should be is left alone: the recorder takes every other change for an attack.

DO $do$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN VALUES ('ballast_ddl', 'ddl_command_end', 'on_ddl'),
                         ('ballast_drop', 'sql_drop', 'on_drop'),
                         ('ballast_rewrite', 'table_rewrite', 'on_rewrite')
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_event_trigger e
              JOIN pg_proc p ON p.oid = e.evtfoid AND p.proname = wanted.column3
                            AND p.pronamespace = 'ballast'::regnamespace
             WHERE e.evtname = wanted.column1 AND e.evtevent = wanted.column2 AND e.evtenabled = 'A'
               AND e.evttags IS NULL);
        EXECUTE format('DROP EVENT TRIGGER IF EXISTS %I', wanted.column1);
        EXECUTE format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION ballast.%I()',
                       wanted.column1, wanted.column2, wanted.column3);
        EXECUTE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', wanted.column1);
    END LOOP;
END
$do$;
