-- depends: 0002.catalog

-- Who buys, what they have in the cart, and what the shop promised them.

CREATE TABLE mall.customer (
    shop_id        uuid NOT NULL REFERENCES mall.shop,
    customer_id    uuid NOT NULL,
    phone          text,
    email          text,
    openid         text,
    name           text NOT NULL DEFAULT '',
    password_hash  text,
    level          integer NOT NULL DEFAULT 0,
    points         bigint NOT NULL DEFAULT 0,
    spent_fen      bigint NOT NULL DEFAULT 0,
    note           text NOT NULL DEFAULT '',
    external_code  text,
    disabled_at    timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, customer_id)
);
CREATE UNIQUE INDEX customer_phone ON mall.customer (shop_id, phone) WHERE phone IS NOT NULL;
CREATE UNIQUE INDEX customer_email ON mall.customer (shop_id, email) WHERE email IS NOT NULL;
CREATE UNIQUE INDEX customer_openid ON mall.customer (shop_id, openid) WHERE openid IS NOT NULL;
CREATE UNIQUE INDEX customer_external_code ON mall.customer (shop_id, external_code) WHERE external_code IS NOT NULL;

-- A browser that came to the shop: a guest until customer_id is set.
CREATE TABLE mall.visitor (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    visitor_id   uuid NOT NULL,
    token_hash   bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    customer_id  uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (shop_id, visitor_id),
    UNIQUE (shop_id, token_hash),
    FOREIGN KEY (shop_id, customer_id) REFERENCES mall.customer
);

CREATE TABLE mall.address (
    shop_id      uuid NOT NULL,
    address_id   uuid NOT NULL,
    customer_id  uuid NOT NULL,
    name         text NOT NULL,
    phone        text NOT NULL,
    province     text NOT NULL,
    city         text NOT NULL DEFAULT '',
    district     text NOT NULL DEFAULT '',
    street       text NOT NULL,
    is_default   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (shop_id, address_id),
    FOREIGN KEY (shop_id, customer_id) REFERENCES mall.customer
);
CREATE INDEX address_customer ON mall.address (shop_id, customer_id);

-- A code that the shop's staff gave to somebody who forgot his password; the next one takes its place.
CREATE TABLE mall.reset_code (
    shop_id      uuid NOT NULL,
    customer_id  uuid NOT NULL,
    code_hash    text NOT NULL,
    tries        integer NOT NULL DEFAULT 0,
    made_at      timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (shop_id, customer_id),
    FOREIGN KEY (shop_id, customer_id) REFERENCES mall.customer
);
COMMENT ON COLUMN mall.reset_code.code_hash IS 'argon2id: a code is short enough to be guessed from a fast hash';

-- A guest's cart belongs to a visitor, a member's to the customer; exactly one of both.
CREATE TABLE mall.cart_line (
    shop_id      uuid NOT NULL,
    owner_id     uuid NOT NULL,
    sku_id       uuid NOT NULL,
    quantity     integer NOT NULL CHECK (quantity BETWEEN 1 AND 999),
    added_at     timestamptz NOT NULL DEFAULT now(),
    added_by     uuid,
    PRIMARY KEY (shop_id, owner_id, sku_id),
    FOREIGN KEY (shop_id, sku_id) REFERENCES mall.sku
);
COMMENT ON COLUMN mall.cart_line.owner_id IS 'customer_id of a member, visitor_id of a guest';
COMMENT ON COLUMN mall.cart_line.added_by IS 'the request that added pieces last: made again, it adds none';

CREATE TABLE mall.coupon (
    shop_id        uuid NOT NULL REFERENCES mall.shop,
    coupon_id      uuid NOT NULL,
    name           text NOT NULL,
    name_en        text NOT NULL DEFAULT '',
    code           text,
    kind           text NOT NULL CHECK (kind IN ('fixed', 'percent')),
    amount_fen     bigint CHECK (amount_fen > 0),
    percent_bp     integer CHECK (percent_bp BETWEEN 1 AND 10000),
    cap_fen        bigint CHECK (cap_fen > 0),
    threshold_fen  bigint NOT NULL DEFAULT 0 CHECK (threshold_fen >= 0),
    scope          jsonb NOT NULL DEFAULT '{}',
    per_customer   integer NOT NULL DEFAULT 1 CHECK (per_customer > 0),
    stock          integer CHECK (stock >= 0),
    claimed        integer NOT NULL DEFAULT 0,
    used           integer NOT NULL DEFAULT 0,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL CHECK (ends_at > starts_at),
    stopped_at     timestamptz,
    PRIMARY KEY (shop_id, coupon_id),
    CHECK ((kind = 'fixed') = (amount_fen IS NOT NULL)),
    CHECK ((kind = 'percent') = (percent_bp IS NOT NULL)),
    CHECK (stock IS NULL OR claimed <= stock)
);
CREATE UNIQUE INDEX coupon_code ON mall.coupon (shop_id, upper(code)) WHERE code IS NOT NULL;
COMMENT ON COLUMN mall.coupon.percent_bp IS 'what is taken off, basis points: 2000 is 20 % off (8 折)';

CREATE TABLE mall.coupon_claim (
    shop_id      uuid NOT NULL,
    claim_id     uuid NOT NULL,
    coupon_id    uuid NOT NULL,
    owner_id     uuid NOT NULL,
    claimed_at   timestamptz NOT NULL DEFAULT now(),
    order_id     uuid,
    used_at      timestamptz,
    PRIMARY KEY (shop_id, claim_id),
    FOREIGN KEY (shop_id, coupon_id) REFERENCES mall.coupon,
    CHECK ((order_id IS NULL) = (used_at IS NULL))
);
CREATE INDEX coupon_claim_owner ON mall.coupon_claim (shop_id, owner_id);

CREATE TABLE mall.full_reduction (
    shop_id       uuid NOT NULL REFERENCES mall.shop,
    promotion_id  uuid NOT NULL,
    name          text NOT NULL,
    name_en       text NOT NULL DEFAULT '',
    tiers         jsonb NOT NULL,
    scope         jsonb NOT NULL DEFAULT '{}',
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL CHECK (ends_at > starts_at),
    stopped_at    timestamptz,
    PRIMARY KEY (shop_id, promotion_id)
);
COMMENT ON COLUMN mall.full_reduction.tiers IS '[{"from_fen","off_fen"}], lowest first';
COMMENT ON COLUMN mall.full_reduction.scope IS '{} is the whole shop; else {"categories":[…],"products":[…]}';

CREATE TABLE mall.limited_price (
    shop_id       uuid NOT NULL,
    promotion_id  uuid NOT NULL,
    sku_id        uuid NOT NULL,
    name          text NOT NULL,
    name_en       text NOT NULL DEFAULT '',
    price_fen     bigint NOT NULL CHECK (price_fen >= 0),
    quota         integer CHECK (quota > 0),
    sold          integer NOT NULL DEFAULT 0 CHECK (sold >= 0),
    per_customer  integer CHECK (per_customer > 0),
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL CHECK (ends_at > starts_at),
    stopped_at    timestamptz,
    PRIMARY KEY (shop_id, promotion_id),
    FOREIGN KEY (shop_id, sku_id) REFERENCES mall.sku,
    CHECK (quota IS NULL OR sold <= quota)
);
CREATE INDEX limited_price_sku ON mall.limited_price (shop_id, sku_id);
