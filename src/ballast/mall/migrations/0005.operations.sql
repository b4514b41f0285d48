-- depends: 0004.orders

-- What makes writes safe to repeat, what goes out, and who did what.

CREATE TABLE mall.idempotency (
    shop_id       uuid NOT NULL REFERENCES mall.shop,
    scope         text NOT NULL,
    key           text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    request_hash  bytea NOT NULL,
    answer        jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, scope, key)
);
COMMENT ON TABLE mall.idempotency IS 'written in the transaction that it guards: a line is there exactly if the write is';

CREATE TABLE mall.outbox (
    shop_id        uuid NOT NULL REFERENCES mall.shop,
    event_id       uuid NOT NULL,
    kind           text NOT NULL,
    body           jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    dispatched_at  timestamptz,
    PRIMARY KEY (shop_id, event_id)
);
CREATE INDEX outbox_waiting ON mall.outbox (shop_id, created_at) WHERE dispatched_at IS NULL;

CREATE TABLE mall.webhook (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    webhook_id   uuid NOT NULL,
    url          text NOT NULL,
    secret       text NOT NULL,
    old_secret   text,
    old_until    timestamptz,
    kinds        text[] NOT NULL,
    active       boolean NOT NULL DEFAULT true,
    failing_since timestamptz,
    stopped_at   timestamptz,
    removed_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, webhook_id)
);
COMMENT ON COLUMN mall.webhook.secret IS 'sealed by the platform''s secret, as is old_secret';
COMMENT ON COLUMN mall.webhook.old_secret IS 'signs beside the new one until old_until, so that a receiver can change it without a gap';
COMMENT ON COLUMN mall.webhook.failing_since IS 'the first failure since the last success';
COMMENT ON COLUMN mall.webhook.stopped_at IS 'when it was turned off because nobody answered; empty where its shop turned it off';

CREATE TABLE mall.webhook_delivery (
    shop_id        uuid NOT NULL,
    delivery_id    uuid NOT NULL,
    webhook_id     uuid NOT NULL,
    event_id       uuid NOT NULL,
    status         text NOT NULL CHECK (status IN ('waiting', 'delivered', 'given_up')),
    attempts       integer NOT NULL DEFAULT 0,
    next_at        timestamptz,
    answer_status  integer,
    answer_excerpt text NOT NULL DEFAULT '',
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, delivery_id),
    UNIQUE (shop_id, webhook_id, event_id),
    FOREIGN KEY (shop_id, webhook_id) REFERENCES mall.webhook,
    FOREIGN KEY (shop_id, event_id) REFERENCES mall.outbox
);
-- An event that is deleted is looked for here.
CREATE INDEX webhook_delivery_event ON mall.webhook_delivery (shop_id, event_id);
CREATE INDEX webhook_delivery_due ON mall.webhook_delivery (shop_id, webhook_id, next_at) WHERE status = 'waiting';

CREATE TABLE mall.api_key (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    key_id       uuid NOT NULL,
    name         text NOT NULL,
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    scopes       text[] NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, key_id)
);

CREATE TABLE mall.audit (
    shop_id     uuid NOT NULL REFERENCES mall.shop,
    audit_id    uuid NOT NULL,
    account_id  uuid,
    actor       text NOT NULL,
    action      text NOT NULL,
    subject     text NOT NULL DEFAULT '',
    detail      jsonb NOT NULL DEFAULT '{}',
    address     text NOT NULL DEFAULT '',
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, audit_id)
);

-- Counted in the web process and added up here every few seconds.
CREATE TABLE mall.visit_hour (
    shop_id    uuid NOT NULL REFERENCES mall.shop,
    hour       timestamptz NOT NULL,
    views      bigint NOT NULL DEFAULT 0,
    visitors   bigint NOT NULL DEFAULT 0,
    carts      bigint NOT NULL DEFAULT 0,
    checkouts  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (shop_id, hour)
);
