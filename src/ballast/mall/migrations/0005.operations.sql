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

-- What was accepted while the database was away and could not be kept as it was, until the shop has decided what becomes of it.
CREATE TABLE mall.exception (
    shop_id       uuid NOT NULL REFERENCES mall.shop,
    exception_id  uuid NOT NULL,
    kind          text NOT NULL,
    order_id      uuid,
    owner_id      uuid,
    customer_id   uuid,
    reason        text NOT NULL,
    params        jsonb NOT NULL DEFAULT '{}',
    kept_at       timestamptz NOT NULL,
    settled_at    timestamptz,
    settled_by    text,
    remedy        text CHECK (remedy IN ('accept', 'substitute', 'refund', 'note', 'ask', 'address')),
    answer        text NOT NULL DEFAULT '',
    PRIMARY KEY (shop_id, exception_id),
    CHECK ((settled_at IS NULL) = (remedy IS NULL))
);
-- An order is kept apart once: what comes for it afterwards is kept with it.
CREATE UNIQUE INDEX exception_order ON mall.exception (shop_id, order_id) WHERE kind IN ('checkout', 'payment_begun', 'callback');
CREATE INDEX exception_owner ON mall.exception (shop_id, owner_id);
CREATE INDEX exception_open ON mall.exception (shop_id, kept_at) WHERE settled_at IS NULL;
COMMENT ON COLUMN mall.exception.kind IS 'of the deed that could not be done (mall.deed_kinds); questioned: an order that stands and is to be looked at';
COMMENT ON COLUMN mall.exception.reason IS 'the name of a text; params fill it';

-- The deed that could not be done (number 1), and those that came for its order afterwards, in their order.
CREATE TABLE mall.exception_deed (
    shop_id       uuid NOT NULL,
    exception_id  uuid NOT NULL,
    number        integer NOT NULL CHECK (number > 0),
    key           text NOT NULL,
    kind          text NOT NULL,
    payload       jsonb NOT NULL,
    at            timestamptz NOT NULL,
    PRIMARY KEY (shop_id, exception_id, number),
    UNIQUE (shop_id, key),
    FOREIGN KEY (shop_id, exception_id) REFERENCES mall.exception
);
CREATE INDEX exception_deed_payment ON mall.exception_deed (shop_id, (payload->>'payment_id')) WHERE kind = 'payment_begun';

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
