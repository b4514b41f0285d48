-- name: usable_coupons
-- Coupons that a shopper took and could use now: one that is given out no more stays good.
SELECT m.claim_id, c.name, c.name_en, c.threshold_fen, c.ends_at
FROM mall.coupon_claim m JOIN mall.coupon c USING (shop_id, coupon_id)
WHERE m.owner_id = :owner_id AND m.order_id IS NULL AND :now ::timestamptz >= c.starts_at AND :now ::timestamptz < c.ends_at
ORDER BY c.ends_at, m.claim_id;

-- name: last_address
-- Where his last order went.
SELECT buyer_name, buyer_phone, address::text AS address FROM mall.orders
WHERE owner_id = :owner_id AND source IN ('web', 'api') ORDER BY placed_at DESC LIMIT 1;
