-- What belongs to the platform and to no shop: who may sign in, which shops there are and under which address,
-- what they pay for. The vault keeps these as shared tables: they are the first to come back.

CREATE SCHEMA IF NOT EXISTS mall;

-- Three roles, each of which can do one thing. None owns a table, none may bypass row-level security.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['mall_app', 'mall_identity', 'mall_platform'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', wanted);
        END IF;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA mall TO mall_app, mall_identity, mall_platform;

-- The shop of this transaction: set with set_config('mall.shop', …, true), gone with the transaction. None set: no rows.
CREATE FUNCTION mall.current_shop() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(pg_catalog.current_setting('mall.shop', true), '')::uuid $$;

CREATE TABLE mall.industry (
    code         text PRIMARY KEY,
    name_zh      text NOT NULL,
    name_en      text NOT NULL,
    margin_bp    integer NOT NULL CHECK (margin_bp BETWEEN 0 AND 10000)
);
COMMENT ON COLUMN mall.industry.margin_bp IS 'average marginal contribution margin, basis points of revenue';

CREATE TABLE mall.plan (
    code             text PRIMARY KEY,
    name_zh          text NOT NULL,
    name_en          text NOT NULL,
    month_fen        bigint NOT NULL CHECK (month_fen >= 0),
    max_products     integer NOT NULL CHECK (max_products > 0),
    max_staff        integer NOT NULL CHECK (max_staff > 0),
    rank             integer NOT NULL DEFAULT 100,
    offered          boolean NOT NULL DEFAULT true,
    max_pictures_mb  integer NOT NULL DEFAULT 2000 CHECK (max_pictures_mb > 0)
);
COMMENT ON COLUMN mall.plan.rank IS 'whose shops come back first after a loss: the lowest';

-- One line a shop, and the only place from which a slug leads to a shop.
CREATE TABLE mall.directory (
    shop_id        uuid PRIMARY KEY,
    slug           text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$'),
    name           text NOT NULL,
    status         text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'suspended', 'closing', 'closed')),
    status_reason  text,
    industry       text NOT NULL REFERENCES mall.industry,
    plan           text NOT NULL REFERENCES mall.plan,
    service_until  timestamptz NOT NULL,
    closing_at     timestamptz,
    opened_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (status <> 'closing' OR closing_at IS NOT NULL)
);
COMMENT ON COLUMN mall.directory.closing_at IS 'end of the grace period of a shop that is being closed; nothing is deleted before or after it';

CREATE TABLE mall.hostname (
    host       text PRIMARY KEY CHECK (host = lower(host)),
    shop_id    uuid NOT NULL REFERENCES mall.directory
);

CREATE TABLE mall.subscription (
    shop_id          uuid NOT NULL REFERENCES mall.directory,
    subscription_id  uuid NOT NULL,
    plan             text NOT NULL REFERENCES mall.plan,
    starts_at        timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL CHECK (ends_at > starts_at),
    paid_fen         bigint NOT NULL CHECK (paid_fen >= 0),
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, subscription_id)
);

-- Service given beyond what was paid for. A line is never changed; its key makes the giving idempotent.
CREATE TABLE mall.service_extension (
    shop_id        uuid NOT NULL REFERENCES mall.directory,
    extension_key  text NOT NULL,
    days           integer NOT NULL CHECK (days > 0),
    reason         text NOT NULL,
    until_before   timestamptz NOT NULL,
    until_after    timestamptz NOT NULL,
    given_by       text NOT NULL,
    given_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, extension_key)
);

CREATE TABLE mall.account (
    account_id      uuid PRIMARY KEY,
    login           text NOT NULL UNIQUE CHECK (login = lower(login)),
    name            text NOT NULL,
    password_hash   text NOT NULL,
    totp_secret     text,
    totp_last_step  bigint,
    language        text NOT NULL DEFAULT 'zh' CHECK (language IN ('zh', 'en')),
    operator        boolean NOT NULL DEFAULT false,
    disabled_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN mall.account.totp_last_step IS 'the last time step whose code was used: no code is taken twice (RFC 6238, 5.2)';

CREATE TABLE mall.account_session (
    token_hash    bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    account_id    uuid NOT NULL REFERENCES mall.account,
    created_at    timestamptz NOT NULL DEFAULT now(),
    seen_at       timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    address       text NOT NULL DEFAULT '',
    agent         text NOT NULL DEFAULT ''
);
CREATE INDEX account_session_account ON mall.account_session (account_id);

-- Links that work once: the first operator's, an invitation, a new password.
CREATE TABLE mall.account_link (
    token_hash    bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    purpose       text NOT NULL CHECK (purpose IN ('first_operator', 'invitation', 'new_password')),
    account_id    uuid REFERENCES mall.account,
    shop_id       uuid REFERENCES mall.directory,
    role          text,
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- How often a sign-in was tried since when: by login and address together, and by address. The bucket is a hash of them.
CREATE TABLE mall.signin_attempts (
    bucket    bytea PRIMARY KEY CHECK (octet_length(bucket) = 32),
    since     timestamptz NOT NULL,
    attempts  integer NOT NULL
);

CREATE TABLE mall.platform_audit (
    audit_id      uuid PRIMARY KEY,
    account_id    uuid,
    action        text NOT NULL,
    shop_id_of    uuid,
    subject       text NOT NULL DEFAULT '',
    detail        jsonb NOT NULL DEFAULT '{}',
    address       text NOT NULL DEFAULT '',
    at            timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT ON mall.industry, mall.plan, mall.directory, mall.hostname TO mall_app, mall_identity, mall_platform;
GRANT INSERT, UPDATE ON mall.industry, mall.plan, mall.directory, mall.subscription TO mall_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON mall.hostname TO mall_platform;
GRANT SELECT, INSERT ON mall.service_extension, mall.platform_audit TO mall_platform;
GRANT SELECT ON mall.subscription TO mall_platform;
GRANT SELECT (account_id, login, name, language, operator, disabled_at, created_at) ON mall.account TO mall_platform;
-- It may invite; a link that gives somebody else's account a new password it cannot make.
GRANT INSERT (token_hash, purpose, shop_id, role, expires_at) ON mall.account_link TO mall_platform;
GRANT UPDATE (disabled_at, operator) ON mall.account TO mall_platform;
GRANT SELECT, INSERT, UPDATE ON mall.account, mall.account_session, mall.account_link TO mall_identity;
GRANT DELETE ON mall.account_session, mall.account_link TO mall_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON mall.signin_attempts TO mall_identity;
GRANT INSERT ON mall.platform_audit TO mall_identity;

-- A merchant sees what its own shop pays, and no other's.
ALTER TABLE mall.subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE mall.subscription FORCE ROW LEVEL SECURITY;
ALTER TABLE mall.service_extension ENABLE ROW LEVEL SECURITY;
ALTER TABLE mall.service_extension FORCE ROW LEVEL SECURITY;
GRANT SELECT ON mall.subscription, mall.service_extension TO mall_app;
CREATE POLICY of_shop ON mall.subscription FOR SELECT TO mall_app USING (shop_id = mall.current_shop());
CREATE POLICY of_shop ON mall.service_extension FOR SELECT TO mall_app USING (shop_id = mall.current_shop());
CREATE POLICY of_platform ON mall.subscription TO mall_platform USING (true) WITH CHECK (true);
CREATE POLICY of_platform ON mall.service_extension TO mall_platform USING (true) WITH CHECK (true);
