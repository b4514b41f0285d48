-- depends: 0006.isolation

-- Gift cards: money that a shop owes to whoever knows a code.

CREATE TABLE mall.gift_card (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    card_id      uuid NOT NULL,
    code_hash    bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    last4        text COLLATE "C" NOT NULL CHECK (length(last4) = 4),
    initial_fen  bigint NOT NULL CHECK (initial_fen > 0),
    balance_fen  bigint NOT NULL,
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'voided')),
    expires_at   timestamptz,
    note         text NOT NULL DEFAULT '',
    issued_by    text NOT NULL,
    issued_at    timestamptz NOT NULL DEFAULT now(),
    voided_at    timestamptz,
    void_reason  text NOT NULL DEFAULT '',
    PRIMARY KEY (shop_id, card_id),
    UNIQUE (shop_id, code_hash),
    CONSTRAINT gift_card_covers CHECK (balance_fen BETWEEN 0 AND initial_fen),
    CHECK ((status = 'voided') = (voided_at IS NOT NULL))
);
CREATE INDEX gift_card_last4 ON mall.gift_card (shop_id, last4);
COMMENT ON COLUMN mall.gift_card.code_hash IS 'SHA-256 of the code, 80 random bits, which is shown once and kept nowhere';
COMMENT ON COLUMN mall.gift_card.balance_fen IS 'the sum of its movements; mall.gift_card_movement says where it went';

-- Every change of a balance. A payment's movement has the payment's id, a refund's that of the refund: each is there once.
CREATE TABLE mall.gift_card_movement (
    shop_id      uuid NOT NULL,
    movement_id  uuid NOT NULL,
    card_id      uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('issued', 'paid', 'refunded', 'voided')),
    amount_fen   bigint NOT NULL,
    order_id     uuid,
    actor        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, movement_id),
    FOREIGN KEY (shop_id, card_id) REFERENCES mall.gift_card,
    CHECK (CASE WHEN kind IN ('issued', 'refunded') THEN amount_fen > 0 ELSE amount_fen < 0 END),
    CHECK ((kind IN ('paid', 'refunded')) = (order_id IS NOT NULL))
);
CREATE INDEX gift_card_movement_card ON mall.gift_card_movement (shop_id, card_id, at);

-- As in 0006.isolation. The platform's operators have no business with cards.
DO $$
DECLARE
    of_shop text;
BEGIN
    FOREACH of_shop IN ARRAY ARRAY['gift_card', 'gift_card_movement'] LOOP
        EXECUTE format('ALTER TABLE mall.%I ENABLE ROW LEVEL SECURITY', of_shop);
        EXECUTE format('ALTER TABLE mall.%I FORCE ROW LEVEL SECURITY', of_shop);
        EXECUTE format('CREATE POLICY of_shop ON mall.%I TO mall_app USING (shop_id = mall.current_shop()) WITH CHECK (shop_id = mall.current_shop())', of_shop);
        EXECUTE format('GRANT SELECT, INSERT ON mall.%I TO mall_app', of_shop);
    END LOOP;
END $$;
-- What a card is worth, and whether it is good, may change; what it was issued for and its movements never.
GRANT UPDATE (balance_fen, status, voided_at, void_reason) ON mall.gift_card TO mall_app;
