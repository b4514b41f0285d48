-- name: look
-- The card of a code, as long as it is good.
SELECT card_id, balance_fen FROM mall.gift_card
WHERE code_hash = :code_hash AND status = 'active' AND (expires_at IS NULL OR expires_at > :now ::timestamptz);

-- name: pay
-- The card pays. Where it is not good (any more) or has too little it is an error of the table's CHECK (`gift_card_covers`); where it
-- is not there any more, of its movement, which is of no card then.
WITH paid AS (
    UPDATE mall.gift_card SET balance_fen =
        CASE WHEN status = 'active' AND (expires_at IS NULL OR expires_at > :now ::timestamptz) THEN balance_fen - :amount_fen ::bigint ELSE -1 END
    WHERE card_id = :card_id
    RETURNING card_id
)
INSERT INTO mall.gift_card_movement (shop_id, movement_id, card_id, kind, amount_fen, order_id, actor, at)
VALUES (mall.current_shop(), :payment_id ::uuid, (SELECT card_id FROM paid), 'paid', - :amount_fen ::bigint, :order_id ::uuid, :actor ::text, :now ::timestamptz);

-- name: give_back
-- What a refund gives back stands on the card that paid, whatever became of the card since. No row: no card paid this.
WITH back AS (
    UPDATE mall.gift_card c SET balance_fen = c.balance_fen + :amount_fen ::bigint
    FROM mall.gift_card_movement m
    WHERE m.movement_id = :payment_id AND m.kind = 'paid' AND c.shop_id = m.shop_id AND c.card_id = m.card_id
    RETURNING c.shop_id, c.card_id
)
INSERT INTO mall.gift_card_movement (shop_id, movement_id, card_id, kind, amount_fen, order_id, actor, at)
SELECT shop_id, :refund_id ::uuid, card_id, 'refunded', :amount_fen ::bigint, :order_id ::uuid, :actor ::text, :now ::timestamptz FROM back
RETURNING card_id;

-- name: paid_by
-- Whether this card paid the order.
SELECT m.movement_id FROM mall.gift_card_movement m JOIN mall.gift_card c USING (shop_id, card_id)
WHERE c.code_hash = :code_hash AND m.kind = 'paid' AND m.order_id = :order_id;

-- name: issue!
-- New cards, each with the movement that says what it was issued for.
WITH made AS (
    INSERT INTO mall.gift_card (shop_id, card_id, code_hash, last4, initial_fen, balance_fen, expires_at, note, issued_by, issued_at)
    SELECT mall.current_shop(), w.card_id, decode(w.hash, 'hex'), w.last4, :amount_fen ::bigint, :amount_fen ::bigint, :expires_at ::timestamptz, :note ::text,
        :actor ::text, :now ::timestamptz
    FROM unnest(:cards ::uuid[], :hashes ::text[], :last4 ::text[]) AS w (card_id, hash, last4)
)
INSERT INTO mall.gift_card_movement (shop_id, movement_id, card_id, kind, amount_fen, actor, at)
SELECT mall.current_shop(), w.movement_id, w.card_id, 'issued', :amount_fen ::bigint, :actor ::text, :now ::timestamptz
FROM unnest(:cards ::uuid[], :movements ::uuid[]) AS w (card_id, movement_id);

-- name: page
-- Cards, the newest first. `before`: the last one of the page before.
SELECT card_id, last4, initial_fen, balance_fen, status, expires_at, note, issued_by, issued_at, voided_at, void_reason FROM mall.gift_card
WHERE (:last4 ::text IS NULL OR last4 = :last4 ::text) AND (:before ::uuid IS NULL OR card_id < :before ::uuid)
ORDER BY card_id DESC LIMIT :most ::integer;

-- name: owed
-- What the holders of cards may still spend.
SELECT COALESCE(sum(balance_fen), 0)::bigint AS owed_fen FROM mall.gift_card
WHERE status = 'active' AND balance_fen > 0 AND (expires_at IS NULL OR expires_at > :now ::timestamptz);

-- name: one
-- A card.
SELECT card_id, last4, initial_fen, balance_fen, status, expires_at, note, issued_by, issued_at, voided_at, void_reason FROM mall.gift_card
WHERE card_id = :card_id;

-- name: lock
-- A card that nobody else changes until this transaction ends.
SELECT card_id, last4, balance_fen, status FROM mall.gift_card WHERE card_id = :card_id FOR NO KEY UPDATE;

-- name: movements
-- The latest movements of a card, the newest first.
SELECT m.movement_id, m.kind, m.amount_fen, m.order_id, o.number, m.actor, m.reason, m.at
FROM mall.gift_card_movement m LEFT JOIN mall.orders o ON o.shop_id = m.shop_id AND o.order_id = m.order_id
WHERE m.card_id = :card_id ORDER BY m.at DESC, m.movement_id DESC LIMIT :most ::integer;

-- name: void!
-- It pays nothing any more; what was left goes, by a movement where it was anything. It is locked.
WITH voided AS (
    UPDATE mall.gift_card SET balance_fen = 0, status = 'voided', voided_at = COALESCE(voided_at, :now ::timestamptz),
        void_reason = CASE WHEN status = 'voided' THEN void_reason ELSE :reason ::text END
    WHERE card_id = :card_id
)
INSERT INTO mall.gift_card_movement (shop_id, movement_id, card_id, kind, amount_fen, actor, reason, at)
SELECT mall.current_shop(), :movement_id ::uuid, :card_id ::uuid, 'voided', - :left_fen ::bigint, :actor ::text, :reason ::text, :now ::timestamptz
WHERE :left_fen ::bigint > 0;
