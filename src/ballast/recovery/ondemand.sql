-- What recovery on demand puts into the target while it works. Run as one transaction, and again at will.
--
-- Functions run as their owner, the role that recovers, with a search path that nobody can put anything into: an
-- application's role must neither read nor change who is back.

CREATE SCHEMA IF NOT EXISTS ballast_recovery;
COMMENT ON SCHEMA ballast_recovery IS 'Ballast: recovery of this database on demand.';

-- From which cut of which vault the rows come that carry the origin of a recovery; stays when all is done.
CREATE TABLE IF NOT EXISTS ballast_recovery.origin (
    vault_id text NOT NULL,
    timeline int NOT NULL,
    lsn pg_lsn NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS origin_only_one ON ballast_recovery.origin ((true));

-- Every tenant of the record at that cut. `back_at` is set by the transaction that holds the tenant's rows.
CREATE TABLE IF NOT EXISTS ballast_recovery.tenant (
    tenant text COLLATE "C" PRIMARY KEY,
    rank double precision,
    back_at timestamptz,
    failure text
) WITH (fillfactor = 50);

-- How far it is, for anybody to read; one row.
CREATE TABLE IF NOT EXISTS ballast_recovery.progress (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    tenants bigint NOT NULL,
    tenants_back bigint NOT NULL,
    tenants_failed bigint NOT NULL,
    rows_estimated bigint NOT NULL,
    rows_back bigint NOT NULL,
    rows_per_second double precision,
    seconds_left double precision,
    tenants_waited_for bigint NOT NULL,
    sessions_waiting bigint NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Row-level security as the record has it, of the tables where ours was put on top.
CREATE TABLE IF NOT EXISTS ballast_recovery.gate (
    relation oid PRIMARY KEY,
    was_enabled boolean NOT NULL,
    was_forced boolean NOT NULL
);

-- Foreign keys that were added without looking at rows, to be validated when all are there; indexes that only help us.
CREATE TABLE IF NOT EXISTS ballast_recovery.unchecked (
    oid oid PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS ballast_recovery.help (
    index_name text PRIMARY KEY
);

-- The settings by which sessions say whose rows they are about; `ballast.tenant` is always one.
CREATE TABLE IF NOT EXISTS ballast_recovery.naming (
    setting text PRIMARY KEY
);

-- Refuses a tenant that is not back. Gives true, so that it can stand in a policy.
CREATE OR REPLACE FUNCTION ballast_recovery.writable(tenant text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF EXISTS (SELECT FROM ballast_recovery.tenant t WHERE t.tenant = writable.tenant AND t.back_at IS NULL) THEN
        RAISE EXCEPTION 'tenant "%" is not back yet: this database is being recovered', tenant
            USING ERRCODE = 'BL001',
                  HINT = format('Call SELECT ballast.ensure_tenant(%L), which returns when it is, and try again.', tenant);
    END IF;
    RETURN true;
END
$body$;

-- Refuses to read a tenant's tables unless the session says for whom, and those are back. Declared IMMUTABLE so that the
-- planner calls it whenever it plans a query: a policy's condition is else asked of rows that are found, and where a
-- tenant is missing there are none. What it says holds for that plan only; see gate.py for plans that are kept.
CREATE OR REPLACE FUNCTION ballast_recovery.readable() RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    setting text;
    tenant text;
    is_named boolean := false;
BEGIN
    FOR setting IN SELECT n.setting FROM ballast_recovery.naming n LOOP
        tenant := nullif(current_setting(setting, true), '');
        IF tenant IS NOT NULL THEN
            is_named := true;
            PERFORM ballast_recovery.writable(ballast_recovery.canonical(tenant));
        END IF;
    END LOOP;
    IF NOT is_named THEN
        RAISE EXCEPTION 'whose rows these are to be is not said: this database is being recovered, and rows of tenants that are not back yet would be missing'
            USING ERRCODE = 'BL002',
                  HINT = 'In the same transaction call SELECT ballast.ensure_tenant(''…'') first, or say SET ballast.tenant = ''…''.';
    END IF;
    RETURN true;
END
$body$;

-- What a setting of the application names, if that tenant is back.
CREATE OR REPLACE FUNCTION ballast_recovery.checked(setting text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    tenant text := nullif(current_setting(setting, true), '');
BEGIN
    PERFORM ballast_recovery.writable(ballast_recovery.canonical(tenant));
    RETURN tenant;
END
$body$;

-- Returns when the tenant is whole: true. False: the record knows no such tenant, a new one, so there is nothing to wait
-- for. The transaction counts as being about this tenant from then on.
--
-- Where the session says SET ballast.urgent = on, it comes before those that nobody calls urgent.
--
-- A NOTIFY or a row would reach the restorer at the caller's commit only, after the wait. So the caller asks by holding
-- an advisory lock that names the tenant, and waits for one that the restorer holds against all callers.
CREATE SCHEMA IF NOT EXISTS ballast;
CREATE OR REPLACE FUNCTION ballast.ensure_tenant(tenant text, patience interval DEFAULT '60 seconds') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $body$
DECLARE
    named text := ballast_recovery.canonical(ensure_tenant.tenant);
    deadline timestamptz := clock_timestamp() + patience;
    waited_from timestamptz;
    found_it boolean;
    is_back boolean;
    problem text;
BEGIN
    PERFORM set_config('ballast.tenant', coalesce(named, ''), true);
    SELECT true, t.back_at IS NOT NULL INTO found_it, is_back FROM ballast_recovery.tenant t WHERE t.tenant = named;
    IF found_it IS NULL THEN
        RETURN false;
    ELSIF is_back THEN
        RETURN true;
    END IF;
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'tenant "%" is not back in the snapshot of this transaction', named
            USING ERRCODE = 'BL003',
                  HINT = 'Call ballast.ensure_tenant in a READ COMMITTED transaction of its own, then begin this one anew.';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(CASE WHEN current_setting('ballast.urgent', true) = 'on' THEN {urgent} ELSE {ask} END,
                                         hashtext(named));
    LOOP
        waited_from := clock_timestamp();
        SELECT t.back_at IS NOT NULL, t.failure INTO is_back, problem FROM ballast_recovery.tenant t WHERE t.tenant = named;
        IF is_back THEN
            RETURN true;
        ELSIF problem IS NOT NULL THEN
            RAISE EXCEPTION 'tenant "%" could not be brought back: %', named, problem
                USING ERRCODE = 'BL005', HINT = 'Its rows are in the vault as they were; see what ballast recover reports.';
        ELSIF waited_from > deadline THEN
            RAISE EXCEPTION 'tenant "%" did not come back within %', named, patience
                USING ERRCODE = 'BL004', HINT = 'See ballast_recovery.progress; is ballast recover running?';
        END IF;
        BEGIN
            PERFORM pg_advisory_lock_shared({bell}, hashtext(named) & {mask});
            PERFORM pg_advisory_unlock_shared({bell}, hashtext(named) & {mask});
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
        -- Nobody holds it while no restorer works: then this looks again, but not all the time.
        IF clock_timestamp() - waited_from < interval '5 ms' THEN
            PERFORM pg_sleep(0.02);
        END IF;
    END LOOP;
END
$body$;
COMMENT ON FUNCTION ballast.ensure_tenant(text, interval) IS 'Ballast: returns when the tenant is whole. Gone when all are.';

GRANT USAGE ON SCHEMA ballast, ballast_recovery TO PUBLIC;
GRANT EXECUTE ON FUNCTION ballast.ensure_tenant(text, interval) TO PUBLIC;
GRANT EXECUTE ON FUNCTION ballast_recovery.writable(text), ballast_recovery.readable(), ballast_recovery.checked(text)
   TO PUBLIC;
GRANT SELECT ON ballast_recovery.progress TO PUBLIC;
