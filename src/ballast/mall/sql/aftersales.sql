-- name: claims
-- What of an order's lines is asked back or came back already, refused and withdrawn refunds aside.
SELECT refund_id, status, lines::text AS lines, shipping_fen FROM mall.refund
WHERE order_id = :order_id AND status NOT IN ('refused', 'withdrawn');

-- name: due_payment
-- The payment that a refund goes back to. What was paid before the shop came here no provider of ours can pay back.
SELECT payment_id FROM mall.payment
WHERE order_id = :order_id AND status = 'succeeded' AND NOT undue AND provider <> 'import' ORDER BY succeeded_at LIMIT 1;

-- name: request
-- Somebody asks for money back; nothing where the id was used before.
INSERT INTO mall.refund (shop_id, refund_id, order_id, payment_id, status, with_return, lines, shipping_fen, amount_fen, reason, requested_by, created_at)
VALUES (mall.current_shop(), :refund_id, :order_id, :payment_id, 'requested', :with_return, :lines ::jsonb, :shipping_fen, :amount_fen, :reason, :actor, :now)
ON CONFLICT DO NOTHING RETURNING refund_id;

-- name: order_of
-- Which order a refund belongs to: it is locked first.
SELECT order_id FROM mall.refund WHERE refund_id = :refund_id;

-- name: lock
-- A refund, with what its payment is; its order is locked already.
SELECT r.refund_id, r.order_id, r.payment_id, r.status, r.with_return, r.lines::text AS lines, r.shipping_fen, r.amount_fen, r.reason, r.answer,
       r.return_carrier, r.return_code, r.provider_code, r.requested_by, r.decided_by, r.created_at, r.decided_at, r.sent_at, r.succeeded_at, r.version,
       p.undue, p.provider
FROM mall.refund r JOIN mall.payment p USING (shop_id, payment_id)
WHERE r.refund_id = :refund_id FOR UPDATE OF r;

-- name: change!
-- The refund stands elsewhere now.
UPDATE mall.refund SET status = :status, version = version + 1,
    answer = COALESCE(:answer ::text, answer),
    lines = COALESCE(:lines ::jsonb, lines), amount_fen = :amount_fen ::bigint, shipping_fen = :shipping_fen ::bigint,
    decided_by = COALESCE(decided_by, :decided_by ::text),
    decided_at = CASE WHEN :decided_by ::text IS NULL THEN decided_at ELSE COALESCE(decided_at, :now ::timestamptz) END,
    sent_at = CASE WHEN :status = 'processing' THEN :now ::timestamptz ELSE sent_at END,
    provider_code = CASE WHEN :status = 'processing' THEN NULL ELSE provider_code END,
    succeeded_at = CASE WHEN :status = 'succeeded' THEN :now ::timestamptz ELSE succeeded_at END
WHERE refund_id = :refund_id;

-- name: drop_pieces!
-- Pieces that have not left are not sent any more.
UPDATE mall.order_line l SET dropped_quantity = l.dropped_quantity + w.pieces
FROM unnest(:lines ::integer[], :pieces ::integer[]) AS w (line, pieces)
WHERE l.order_id = :order_id AND l.line = w.line;

-- name: count_refunded!
-- What came back of the lines.
UPDATE mall.order_line l SET refunded_quantity = l.refunded_quantity + w.pieces, refunded_fen = l.refunded_fen + w.amount_fen
FROM unnest(:lines ::integer[], :pieces ::integer[], :amounts ::bigint[]) AS w (line, pieces, amount_fen)
WHERE l.order_id = :order_id AND l.line = w.line;

-- name: parcel
-- With what the shopper sent the goods back.
UPDATE mall.refund SET return_carrier = :carrier, return_code = :code, version = version + 1 WHERE refund_id = :refund_id RETURNING refund_id;

-- name: list_of
-- Refunds, newest first: of an order, or of the shop in some states.
SELECT r.refund_id, r.order_id, r.payment_id, r.status, r.with_return, r.lines::text AS lines, r.shipping_fen, r.amount_fen, r.reason, r.answer,
       r.return_carrier, r.return_code, r.provider_code, r.requested_by, r.decided_by, r.created_at, r.decided_at, r.sent_at, r.succeeded_at, r.version,
       p.undue, p.provider
FROM mall.refund r JOIN mall.payment p USING (shop_id, payment_id)
WHERE (:order_id ::uuid IS NULL OR r.order_id = :order_id ::uuid) AND (:statuses ::text[] IS NULL OR r.status = ANY(:statuses ::text[]))
  AND (:before ::timestamptz IS NULL OR r.created_at < :before ::timestamptz)
ORDER BY r.created_at DESC, r.refund_id DESC LIMIT :most ::integer;

-- name: asked!
-- The provider has taken the refund up; one that it has told of already stays as it is.
UPDATE mall.refund SET provider_code = :code WHERE refund_id = :refund_id AND provider_code IS NULL;

-- name: to_send
-- (as the platform's role) Refunds of all shops that a provider is still to be asked for, or once more.
SELECT r.shop_id, r.refund_id FROM mall.refund r
WHERE (r.status = 'processing' AND r.provider_code IS NULL) OR (r.status = 'failed' AND r.sent_at <= :again_before)
ORDER BY r.sent_at NULLS FIRST LIMIT :most;
