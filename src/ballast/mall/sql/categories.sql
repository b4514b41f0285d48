-- name: all
-- Every category of the shop, shown or not, and how many products are in it.
SELECT c.category_id, c.parent_id, c.name, c.name_en, c.picture, c.visible,
    (SELECT count(*) FROM mall.product_category p WHERE p.category_id = c.category_id) AS products
FROM mall.category c ORDER BY c.position, c.category_id;

-- name: one_at_a_time
-- Who changes the tree waits here for the other: it stays a tree.
SELECT pg_advisory_xact_lock(hashtextextended('mall.category ' || mall.current_shop()::text, 0));

-- name: add
-- A new category, after its sisters; nothing where it was made before.
INSERT INTO mall.category (shop_id, category_id, parent_id, name, name_en, visible, position)
SELECT mall.current_shop(), :category_id, :parent_id, :name, :name_en, :visible,
    COALESCE((SELECT max(position) + 1 FROM mall.category WHERE parent_id IS NOT DISTINCT FROM :parent_id ::uuid), 0)
ON CONFLICT (shop_id, category_id) DO NOTHING RETURNING category_id;

-- name: change!
UPDATE mall.category SET parent_id = :parent_id, name = :name, name_en = :name_en, visible = :visible WHERE category_id = :category_id;

-- name: order!
-- The places of categories.
UPDATE mall.category c SET position = w.position FROM unnest(:categories ::uuid[], :positions ::integer[]) AS w (category_id, position)
WHERE c.category_id = w.category_id;

-- name: empty!
-- No product is in it any more.
DELETE FROM mall.product_category WHERE category_id = :category_id;

-- name: remove!
DELETE FROM mall.category WHERE category_id = :category_id;
