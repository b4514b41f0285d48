-- name: reusable
-- A payment of this order that was begun with the provider and can still be paid.
SELECT payment_id, pay_url FROM mall.payment
WHERE order_id = :order_id AND provider = :provider AND status = 'created' ORDER BY created_at DESC LIMIT 1;

-- name: begin
-- A payment that is about to be asked of a provider; no row where one was begun that can still be paid (its order is locked).
INSERT INTO mall.payment (shop_id, payment_id, order_id, provider, amount_fen, status, created_at)
SELECT mall.current_shop(), :payment_id ::uuid, :order_id ::uuid, :provider ::text, :amount_fen ::bigint, 'created', :now ::timestamptz
WHERE NOT EXISTS (SELECT FROM mall.payment WHERE order_id = :order_id ::uuid AND provider = :provider ::text AND status = 'created')
RETURNING payment_id;

-- name: begin_again!
-- One that was begun elsewhere.
INSERT INTO mall.payment (shop_id, payment_id, order_id, provider, amount_fen, status, created_at)
VALUES (mall.current_shop(), :payment_id, :order_id, :provider, :amount_fen, 'created', :now)
ON CONFLICT (shop_id, payment_id) DO NOTHING;

-- name: opened!
-- The provider has taken it up.
UPDATE mall.payment SET provider_code = :code, pay_url = :pay_url WHERE payment_id = :payment_id;

-- name: settled!
-- One that succeeds as it is begun: a gift card's, or that of an order that costs nothing.
INSERT INTO mall.payment (shop_id, payment_id, order_id, provider, provider_code, amount_fen, status, created_at, succeeded_at)
VALUES (mall.current_shop(), :payment_id, :order_id, :provider, :code, :amount_fen, 'succeeded', :now, :now);

-- name: succeeded!
-- The money is with the provider.
UPDATE mall.payment SET status = 'succeeded', succeeded_at = :now, undue = :undue, provider_code = COALESCE(provider_code, :code) WHERE payment_id = :payment_id;

-- name: failed!
-- Nothing came of it.
UPDATE mall.payment SET status = 'failed' WHERE payment_id = :payment_id AND status = 'created';

-- name: of_order
-- Payments of an order, for its page; of one by a gift card, which card.
SELECT p.payment_id, p.provider, p.provider_code, p.amount_fen, p.status, p.undue, p.created_at, p.succeeded_at, c.card_id, c.last4
FROM mall.payment p
LEFT JOIN mall.gift_card_movement m ON m.shop_id = p.shop_id AND m.movement_id = p.payment_id AND m.kind = 'paid'
LEFT JOIN mall.gift_card c ON c.shop_id = m.shop_id AND c.card_id = m.card_id
WHERE p.order_id = :order_id ORDER BY p.created_at;

-- name: heard
-- What the provider told us by this callback before, and the payment that it names, if it names one. Its order is locked already.
SELECT (SELECT c.outcome FROM mall.payment_callback c WHERE c.provider = :provider AND c.callback_id = :callback_id) AS outcome,
       p.payment_id, p.order_id, p.provider, p.amount_fen, p.status
FROM (VALUES (:reference ::uuid)) AS named (payment_id) LEFT JOIN mall.payment p USING (payment_id);

-- name: note_callback!
-- What the provider told us, and what we made of it.
INSERT INTO mall.payment_callback (shop_id, provider, callback_id, kind, body, outcome, received_at)
VALUES (mall.current_shop(), :provider, :callback_id, :kind, :body, :outcome, :now);

-- name: send_back!
-- A payment that was not due goes back whole.
INSERT INTO mall.refund (shop_id, refund_id, order_id, payment_id, status, with_return, lines, amount_fen, reason, requested_by, decided_by, created_at, decided_at, sent_at)
VALUES (mall.current_shop(), :refund_id, :order_id, :payment_id, 'processing', false, '[]', :amount_fen, 'payment_not_due', 'system', 'system', :now, :now, :now);

-- name: book
-- One transaction of the books.
INSERT INTO mall.posting (shop_id, transaction_id, account, amount_fen, order_id, day, at)
SELECT mall.current_shop(), :transaction_id ::uuid, e.account, e.amount_fen, :order_id ::uuid, :day ::date, :now ::timestamptz
FROM unnest(:accounts ::text[], :amounts ::bigint[]) AS e (account, amount_fen);
