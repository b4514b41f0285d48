-- name: change
-- Changes stock by so much a SKU, each where enough is there, and writes the movements. Rows are locked in the order of their
-- SKUs, so that two transactions never wait for each other. Returns the SKUs that were changed: fewer than asked, someone was
-- short; with `whole` that is an error instead (a movement without a shop). What is allowed: a change that frees or adds always,
-- one that takes only from what is there.
WITH wanted AS (
    SELECT w.sku_id, w.on_hand, w.reserved, w.movement_id
    FROM unnest(:skus ::uuid[], :on_hand ::integer[], :reserved ::integer[], :movements ::uuid[]) AS w (sku_id, on_hand, reserved, movement_id)
), locked AS MATERIALIZED (
    SELECT s.sku_id FROM mall.stock s JOIN wanted w USING (sku_id) ORDER BY s.sku_id FOR UPDATE OF s
), changed AS (
    UPDATE mall.stock s SET on_hand = s.on_hand + w.on_hand, reserved = s.reserved + w.reserved
    FROM locked l JOIN wanted w USING (sku_id)
    WHERE s.sku_id = l.sku_id AND s.on_hand + w.on_hand >= s.reserved + w.reserved AND s.reserved + w.reserved >= 0
    RETURNING s.shop_id, s.sku_id
)
INSERT INTO mall.stock_movement (shop_id, movement_id, sku_id, kind, on_hand, reserved, order_id, actor, reason, at)
SELECT c.shop_id, w.movement_id, w.sku_id, :kind ::text, w.on_hand, w.reserved, :order_id ::uuid, :actor ::text, :reason ::text, :now ::timestamptz
FROM wanted w LEFT JOIN changed c USING (sku_id)
WHERE c.shop_id IS NOT NULL OR :whole ::boolean
RETURNING sku_id;

-- name: free
-- How many pieces of these SKUs can be bought now.
SELECT sku_id, on_hand - reserved AS free FROM mall.stock WHERE sku_id = ANY(:skus ::uuid[]);

-- name: levels
-- Stock of these SKUs.
SELECT sku_id, on_hand, reserved FROM mall.stock WHERE sku_id = ANY(:skus ::uuid[]) ORDER BY sku_id;

-- name: movements
-- The latest movements of a SKU, newest first.
SELECT movement_id, sku_id, kind, on_hand, reserved, order_id, actor, reason, at
FROM mall.stock_movement WHERE sku_id = :sku_id AND (:before ::timestamptz IS NULL OR at < :before ::timestamptz)
ORDER BY at DESC, movement_id DESC LIMIT :most ::integer;

-- name: set_to
-- How much it must change so that so many are on hand; the row stays locked.
SELECT :on_hand ::integer - on_hand AS change FROM mall.stock WHERE sku_id = :sku_id FOR UPDATE;

-- name: hold
-- Stock of a SKU; the row stays locked.
SELECT sku_id, on_hand, reserved FROM mall.stock WHERE sku_id = :sku_id FOR UPDATE;
