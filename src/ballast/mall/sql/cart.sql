-- name: lines
-- What is in a cart, with today's prices and stock; in the order in which it was put there.
SELECT c.sku_id, c.quantity, k.product_id, p.title, p.title_en, k.options, p.pictures[1] AS picture, k.price_fen,
       COALESCE(s.on_hand - s.reserved, 0) AS free, k.active AND p.status = 'on_sale' AS on_sale
FROM mall.cart_line c
JOIN mall.sku k USING (shop_id, sku_id)
JOIN mall.product p USING (shop_id, product_id)
LEFT JOIN mall.stock s USING (shop_id, sku_id)
WHERE c.owner_id = :owner_id
ORDER BY c.added_at, c.sku_id;

-- name: count
-- How many pieces are in a cart.
SELECT COALESCE(sum(quantity), 0)::integer AS pieces FROM mall.cart_line WHERE owner_id = :owner_id;

-- name: add
-- Puts pieces of a SKU that is on sale into a cart, to those that are there, at most 999; the same request once more puts none.
WITH was AS (
    SELECT added_by = :key ::uuid AS done FROM mall.cart_line WHERE owner_id = :owner_id AND sku_id = :sku_id
)
INSERT INTO mall.cart_line (shop_id, owner_id, sku_id, quantity, added_at, added_by)
SELECT k.shop_id, :owner_id, k.sku_id, LEAST(:quantity ::integer, 999), :now, :key ::uuid
FROM mall.sku k JOIN mall.product p USING (shop_id, product_id)
WHERE k.sku_id = :sku_id AND k.active AND p.status = 'on_sale'
ON CONFLICT (shop_id, owner_id, sku_id) DO UPDATE SET added_by = EXCLUDED.added_by, quantity = CASE
    WHEN mall.cart_line.added_by = EXCLUDED.added_by THEN mall.cart_line.quantity
    ELSE LEAST(mall.cart_line.quantity + EXCLUDED.quantity, 999) END
RETURNING quantity, COALESCE((SELECT done FROM was), false) AS done;

-- name: put!
-- So many pieces of a SKU that is on sale, whether or not it was in the cart; an error of the table's CHECK for any other.
INSERT INTO mall.cart_line (shop_id, owner_id, sku_id, quantity, added_at)
VALUES (mall.current_shop(), :owner_id, :sku_id, CASE WHEN EXISTS (
    SELECT FROM mall.sku k JOIN mall.product p USING (shop_id, product_id)
    WHERE k.sku_id = :sku_id AND k.active AND p.status = 'on_sale') THEN :quantity ::integer ELSE 0 END, :now)
ON CONFLICT (shop_id, owner_id, sku_id) DO UPDATE SET quantity = EXCLUDED.quantity;

-- name: set_again!
-- So many pieces of a SKU that the shop has, on sale or not.
INSERT INTO mall.cart_line (shop_id, owner_id, sku_id, quantity, added_at, added_by)
SELECT k.shop_id, :owner_id, k.sku_id, :quantity ::integer, :now, :key ::uuid FROM mall.sku k WHERE k.sku_id = :sku_id
ON CONFLICT (shop_id, owner_id, sku_id) DO UPDATE
SET quantity = EXCLUDED.quantity, added_by = COALESCE(EXCLUDED.added_by, mall.cart_line.added_by);

-- name: set_quantity
-- So many pieces of a SKU that is in the cart.
UPDATE mall.cart_line SET quantity = :quantity WHERE owner_id = :owner_id AND sku_id = :sku_id RETURNING quantity;

-- name: remove!
-- Takes SKUs out of a cart.
DELETE FROM mall.cart_line WHERE owner_id = :owner_id AND sku_id = ANY(:skus ::uuid[]);

-- name: forget_ordered!
-- Goods that were ordered, as far as they were put into the cart before.
DELETE FROM mall.cart_line WHERE owner_id = :owner_id AND sku_id = ANY(:skus ::uuid[]) AND added_at <= :at;

-- name: merge
-- What a guest had in his cart comes into the member's, pieces of one SKU added up; the guest's is empty then.
WITH gone AS (
    DELETE FROM mall.cart_line WHERE owner_id = :guest RETURNING shop_id, sku_id, quantity, added_at
)
INSERT INTO mall.cart_line (shop_id, owner_id, sku_id, quantity, added_at)
SELECT shop_id, :member ::uuid, sku_id, quantity, added_at FROM gone ORDER BY sku_id
ON CONFLICT (shop_id, owner_id, sku_id) DO UPDATE SET quantity = LEAST(mall.cart_line.quantity + EXCLUDED.quantity, 999);
