-- depends: 0003.customers

-- What was sold, paid, sent and given back.

CREATE TABLE mall.orders (
    shop_id          uuid NOT NULL REFERENCES mall.shop,
    order_id         uuid NOT NULL,
    number           text COLLATE "C" NOT NULL,
    status           text NOT NULL CHECK (status IN ('pending_payment', 'paid', 'partly_shipped', 'shipped', 'received', 'closed', 'cancelled')),
    refund_status    text NOT NULL DEFAULT 'none' CHECK (refund_status IN ('none', 'partly_refunded', 'refunded')),
    customer_id      uuid,
    owner_id         uuid NOT NULL,
    buyer_name       text NOT NULL DEFAULT '',
    buyer_phone      text NOT NULL DEFAULT '',
    delivery         text NOT NULL CHECK (delivery IN ('ship', 'pickup')),
    address          jsonb,
    items_fen        bigint NOT NULL CHECK (items_fen >= 0),
    discount_fen     bigint NOT NULL CHECK (discount_fen BETWEEN 0 AND items_fen),
    shipping_fen     bigint NOT NULL CHECK (shipping_fen >= 0),
    total_fen        bigint NOT NULL,
    paid_fen         bigint NOT NULL DEFAULT 0 CHECK (paid_fen >= 0),
    refunded_fen     bigint NOT NULL DEFAULT 0 CHECK (refunded_fen >= 0),
    breakdown        jsonb NOT NULL DEFAULT '{}',
    coupon_claim_id  uuid,
    note             text NOT NULL DEFAULT '',
    merchant_note    text NOT NULL DEFAULT '',
    source           text NOT NULL CHECK (source IN ('web', 'api', 'import', 'intake')),
    external_code    text,
    placed_from      bytea CHECK (octet_length(placed_from) = 32),
    placed_at        timestamptz NOT NULL,
    pay_by           timestamptz NOT NULL,
    paid_at          timestamptz,
    shipped_at       timestamptz,
    received_at      timestamptz,
    closed_at        timestamptz,
    cancelled_at     timestamptz,
    cancel_reason    text,
    version          bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (shop_id, order_id),
    UNIQUE (shop_id, number),
    FOREIGN KEY (shop_id, customer_id) REFERENCES mall.customer,
    FOREIGN KEY (shop_id, coupon_claim_id) REFERENCES mall.coupon_claim,
    CHECK (total_fen = items_fen - discount_fen + shipping_fen),
    CHECK (paid_fen IN (0, total_fen)),
    CHECK (refunded_fen <= paid_fen)
);
CREATE INDEX orders_owner ON mall.orders (shop_id, owner_id, placed_at DESC);
CREATE INDEX orders_customer ON mall.orders (shop_id, customer_id, placed_at DESC) WHERE customer_id IS NOT NULL;
CREATE INDEX orders_phone ON mall.orders (shop_id, buyer_phone) WHERE buyer_phone <> '';
CREATE INDEX orders_placed ON mall.orders (shop_id, placed_at DESC, order_id);
CREATE INDEX orders_status ON mall.orders (shop_id, status, placed_at DESC);
CREATE INDEX orders_to_expire ON mall.orders (pay_by) WHERE status = 'pending_payment';
CREATE INDEX orders_to_receive ON mall.orders (shipped_at) WHERE status = 'shipped';
CREATE INDEX orders_to_close ON mall.orders (received_at) WHERE status = 'received';
CREATE UNIQUE INDEX orders_external_code ON mall.orders (shop_id, external_code) WHERE external_code IS NOT NULL;
CREATE INDEX orders_unpaid_from ON mall.orders (shop_id, placed_from) WHERE status = 'pending_payment' AND placed_from IS NOT NULL;
COMMENT ON COLUMN mall.orders.placed_from IS 'a hash of the shop and the network address: how many that are not paid came from there';
COMMENT ON COLUMN mall.orders.owner_id IS 'customer_id of a member, visitor_id of a guest: who may look at it';
COMMENT ON COLUMN mall.orders.breakdown IS 'how total_fen came about, as it was shown (rules.pricing.Breakdown)';

CREATE TABLE mall.order_line (
    shop_id            uuid NOT NULL,
    order_id           uuid NOT NULL,
    line               integer NOT NULL CHECK (line > 0),
    product_id         uuid,
    sku_id             uuid,
    title              text NOT NULL,
    title_en           text NOT NULL DEFAULT '',
    options            text[] NOT NULL DEFAULT '{}',
    picture            text,
    list_fen           bigint NOT NULL CHECK (list_fen >= 0),
    price_fen          bigint NOT NULL CHECK (price_fen >= 0),
    quantity           integer NOT NULL CHECK (quantity > 0),
    discount_fen       bigint NOT NULL DEFAULT 0 CHECK (discount_fen >= 0),
    total_fen          bigint NOT NULL CHECK (total_fen >= 0),
    limited_price_id   uuid,
    shipped_quantity   integer NOT NULL DEFAULT 0,
    dropped_quantity   integer NOT NULL DEFAULT 0 CHECK (dropped_quantity >= 0),
    refunded_quantity  integer NOT NULL DEFAULT 0,
    refunded_fen       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (shop_id, order_id, line),
    FOREIGN KEY (shop_id, order_id) REFERENCES mall.orders,
    FOREIGN KEY (shop_id, sku_id) REFERENCES mall.sku,
    CHECK (total_fen = price_fen * quantity - discount_fen),
    CHECK (shipped_quantity >= 0 AND shipped_quantity + dropped_quantity <= quantity),
    CHECK (refunded_quantity BETWEEN 0 AND quantity),
    CHECK (refunded_fen BETWEEN 0 AND total_fen)
);
COMMENT ON COLUMN mall.order_line.sku_id IS 'empty for an imported order of goods that the shop no longer lists';
COMMENT ON COLUMN mall.order_line.dropped_quantity IS 'their money goes back before they left: they are not sent any more';
COMMENT ON COLUMN mall.order_line.list_fen IS 'price of one before a limited-time or member price; price_fen is after';

CREATE TABLE mall.order_event (
    shop_id     uuid NOT NULL,
    order_id    uuid NOT NULL,
    event_id    uuid NOT NULL,
    event       text NOT NULL,
    status      text NOT NULL,
    actor       text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}',
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, order_id, event_id),
    FOREIGN KEY (shop_id, order_id) REFERENCES mall.orders
);

CREATE TABLE mall.payment (
    shop_id        uuid NOT NULL,
    payment_id     uuid NOT NULL,
    order_id       uuid NOT NULL,
    provider       text NOT NULL,
    provider_code  text,
    amount_fen     bigint NOT NULL CHECK (amount_fen >= 0),
    status         text NOT NULL CHECK (status IN ('created', 'succeeded', 'failed', 'closed')),
    pay_url        text,
    undue          boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    succeeded_at   timestamptz,
    PRIMARY KEY (shop_id, payment_id),
    FOREIGN KEY (shop_id, order_id) REFERENCES mall.orders
);
COMMENT ON COLUMN mall.payment.undue IS 'it came for an order that was cancelled or paid: it goes back whole';
CREATE INDEX payment_order ON mall.payment (shop_id, order_id);

-- What a provider told us, once each, as it came.
CREATE TABLE mall.payment_callback (
    shop_id      uuid NOT NULL,
    provider     text NOT NULL,
    callback_id  text NOT NULL,
    kind         text NOT NULL,
    body         text NOT NULL,
    outcome      text NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, provider, callback_id)
);

CREATE TABLE mall.shipment (
    shop_id      uuid NOT NULL,
    shipment_id  uuid NOT NULL,
    order_id     uuid NOT NULL,
    carrier      text NOT NULL,
    tracking     text NOT NULL DEFAULT '',
    lines        jsonb NOT NULL,
    shipped_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, shipment_id),
    FOREIGN KEY (shop_id, order_id) REFERENCES mall.orders
);
CREATE INDEX shipment_order ON mall.shipment (shop_id, order_id);
COMMENT ON COLUMN mall.shipment.lines IS '[{"line","quantity"}]';

CREATE TABLE mall.refund (
    shop_id        uuid NOT NULL,
    refund_id      uuid NOT NULL,
    order_id       uuid NOT NULL,
    payment_id     uuid NOT NULL,
    status         text NOT NULL CHECK (status IN ('requested', 'refused', 'withdrawn', 'awaiting_return', 'returned', 'processing', 'succeeded', 'failed')),
    with_return    boolean NOT NULL,
    lines          jsonb NOT NULL,
    shipping_fen   bigint NOT NULL DEFAULT 0 CHECK (shipping_fen >= 0),
    amount_fen     bigint NOT NULL CHECK (amount_fen > 0),
    reason         text NOT NULL DEFAULT '',
    answer         text NOT NULL DEFAULT '',
    return_carrier text NOT NULL DEFAULT '',
    return_code    text NOT NULL DEFAULT '',
    provider_code  text,
    requested_by   text NOT NULL,
    decided_by     text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    decided_at     timestamptz,
    sent_at        timestamptz,
    succeeded_at   timestamptz,
    version        bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (shop_id, refund_id),
    FOREIGN KEY (shop_id, order_id) REFERENCES mall.orders,
    FOREIGN KEY (shop_id, payment_id) REFERENCES mall.payment
);
CREATE INDEX refund_order ON mall.refund (shop_id, order_id);
CREATE INDEX refund_status ON mall.refund (shop_id, status, created_at);
CREATE INDEX refund_to_send ON mall.refund (sent_at) WHERE status IN ('processing', 'failed');
COMMENT ON COLUMN mall.refund.lines IS '[{"line","quantity","amount_fen","dropped"}]; dropped: pieces that had not left when it was approved; empty for a payment that was not due';
COMMENT ON COLUMN mall.refund.sent_at IS 'when the provider was to be asked, the last time';

-- Double entry: the postings of one transaction add up to nothing.
CREATE TABLE mall.posting (
    shop_id         uuid NOT NULL,
    transaction_id  uuid NOT NULL,
    account         text NOT NULL,
    amount_fen      bigint NOT NULL,
    order_id        uuid NOT NULL,
    day             date NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, transaction_id, account),
    FOREIGN KEY (shop_id, order_id) REFERENCES mall.orders
);
CREATE INDEX posting_day ON mall.posting (shop_id, day, account);
COMMENT ON COLUMN mall.posting.day IS 'the day in China (UTC+8) on which the money moved';

CREATE TABLE mall.points_entry (
    shop_id      uuid NOT NULL,
    entry_id     uuid NOT NULL,
    customer_id  uuid NOT NULL,
    points       bigint NOT NULL,
    reason       text NOT NULL,
    order_id     uuid,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, entry_id),
    FOREIGN KEY (shop_id, customer_id) REFERENCES mall.customer
);
CREATE INDEX points_entry_customer ON mall.points_entry (shop_id, customer_id, at);
