-- name: offered
-- Coupons that anybody may take now (or soon, for a week ahead), with how many this shopper took. One with a code is for those who know it.
SELECT c.coupon_id, c.name, c.name_en, c.kind, c.amount_fen, c.percent_bp, c.cap_fen, c.threshold_fen, c.scope::text AS scope, c.per_customer,
    c.stock - c.claimed AS left_over, c.starts_at, c.ends_at, c.stopped_at,
    (SELECT count(*) FROM mall.coupon_claim m WHERE m.shop_id = c.shop_id AND m.owner_id = :owner_id ::uuid AND m.coupon_id = c.coupon_id)::integer AS taken
FROM mall.coupon c
WHERE c.code IS NULL AND c.stopped_at IS NULL AND c.ends_at > :now ::timestamptz AND c.starts_at < :now ::timestamptz + interval '7 days'
ORDER BY c.starts_at > :now ::timestamptz, c.ends_at, c.coupon_id LIMIT 50;

-- name: held
-- What a shopper took, what can be used first.
SELECT m.claim_id, c.name, c.name_en, c.kind, c.amount_fen, c.percent_bp, c.cap_fen, c.threshold_fen, c.scope::text AS scope, c.starts_at, c.ends_at,
    m.used_at, m.order_id
FROM mall.coupon_claim m JOIN mall.coupon c USING (shop_id, coupon_id)
WHERE m.owner_id = :owner_id
ORDER BY m.order_id IS NOT NULL, c.ends_at <= :now ::timestamptz, c.ends_at, m.claim_id LIMIT 100;

-- name: to_take
-- The coupon, until the transaction's end nobody else's to take.
SELECT coupon_id, name, amount_fen, percent_bp, cap_fen, threshold_fen, code, per_customer, stock - claimed AS left_over, starts_at, ends_at, stopped_at
FROM mall.coupon
WHERE (coupon_id = :coupon_id ::uuid AND code IS NULL) OR upper(code) = upper(:code ::text)
FOR UPDATE;

-- name: taken
-- How many of it this shopper has, once the coupon is locked.
SELECT count(*)::integer AS taken FROM mall.coupon_claim WHERE owner_id = :owner_id AND coupon_id = :coupon_id;

-- name: claim
-- No row: this claim is there already.
INSERT INTO mall.coupon_claim (shop_id, claim_id, coupon_id, owner_id, claimed_at)
VALUES (mall.current_shop(), :claim_id, :coupon_id, :owner_id, :now)
ON CONFLICT (shop_id, claim_id) DO NOTHING RETURNING claim_id;

-- name: claimed_before
SELECT coupon_id FROM mall.coupon_claim WHERE claim_id = :claim_id AND owner_id = :owner_id;

-- name: is_taken
-- Whether somebody has this claim.
SELECT claim_id FROM mall.coupon_claim WHERE claim_id = :claim_id;

-- name: count_claim!
UPDATE mall.coupon SET claimed = claimed + 1 WHERE coupon_id = :coupon_id;
