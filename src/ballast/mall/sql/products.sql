-- name: one_at_a_time
-- Who adds products to a shop waits here for the other: the plan's number is kept.
SELECT pg_advisory_xact_lock(hashtextextended('mall.product ' || mall.current_shop()::text, 0));

-- name: room
-- How many products the shop has, archived ones aside, and how many its plan allows.
SELECT (SELECT count(*) FROM mall.product WHERE status <> 'archived') AS products, n.max_products
FROM mall.directory d JOIN mall.plan n ON n.code = d.plan
WHERE d.shop_id = mall.current_shop();

-- name: listed
-- A page of products, and how many there are in all. Sorted by a number that grows, whatever is asked for.
WITH matching AS (
    SELECT p.product_id, count(*) OVER () AS matching,
        CASE :sort ::text
            WHEN 'position' THEN p.position
            WHEN 'sold' THEN -p.sold
            WHEN 'cheap' THEN p.min_price_fen
            WHEN 'dear' THEN -p.max_price_fen
            WHEN 'changed' THEN -(extract(epoch FROM p.updated_at) * 1000000)::bigint
            ELSE -(extract(epoch FROM p.created_at) * 1000000)::bigint
        END AS place
    FROM mall.product p
    WHERE CASE WHEN :status ::text = '' THEN p.status <> 'archived' ELSE p.status = :status ::text END
        AND (:q ::text = '' OR p.search @@ NULLIF(:query ::text, '')::tsquery OR p.external_code = :q ::text
             OR EXISTS (SELECT FROM mall.sku k WHERE k.product_id = p.product_id AND k.code = :q ::text))
        AND (:category_id ::uuid IS NULL OR EXISTS (
            SELECT FROM mall.product_category c WHERE c.product_id = p.product_id AND c.category_id = :category_id ::uuid))
        AND (:low ::integer IS NULL OR EXISTS (
            SELECT FROM mall.sku k LEFT JOIN mall.stock s USING (shop_id, sku_id)
            WHERE k.product_id = p.product_id AND k.active AND COALESCE(s.on_hand - s.reserved, 0) <= :low ::integer))
), page AS (
    SELECT product_id, matching, place FROM matching
    WHERE :after_id ::uuid IS NULL OR (place, product_id) > (:after_place ::bigint, :after_id ::uuid)
    ORDER BY place, product_id LIMIT :most
)
SELECT p.product_id, p.status, p.title, p.title_en, p.external_code, p.pictures[1] AS picture, p.min_price_fen, p.max_price_fen, p.sold,
    p.updated_at, g.place, g.matching, k.skus, k.free
FROM page g JOIN mall.product p USING (product_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS skus, COALESCE(sum(s.on_hand - s.reserved), 0)::bigint AS free
    FROM mall.sku k LEFT JOIN mall.stock s USING (shop_id, sku_id) WHERE k.product_id = p.product_id AND k.active
) k
ORDER BY g.place, g.product_id;

-- name: get
-- Products, whatever their status, each with the categories it is in.
SELECT p.product_id, p.status, p.title, p.title_en, p.subtitle, p.subtitle_en, p.description, p.description_en, p.specs::text AS specs,
    p.pictures, p.min_price_fen, p.max_price_fen, p.sold, p.shipping_id, COALESCE(p.external_code, '') AS external_code, p.position, p.version,
    p.created_at, p.updated_at, ARRAY(SELECT c.category_id FROM mall.product_category c WHERE c.product_id = p.product_id) AS categories
FROM mall.product p WHERE p.product_id = ANY(:products ::uuid[]);

-- name: skus
-- Their SKUs with stock, those that are offered no longer at the end.
SELECT k.product_id, k.sku_id, k.code, k.options, k.price_fen, k.compare_at_fen, k.weight_g, k.active, k.position,
    COALESCE(s.on_hand, 0) AS on_hand, COALESCE(s.reserved, 0) AS reserved
FROM mall.sku k LEFT JOIN mall.stock s USING (shop_id, sku_id)
WHERE k.product_id = ANY(:products ::uuid[]) ORDER BY k.product_id, NOT k.active, k.position, k.sku_id;

-- name: of_codes
-- Which products have these codes.
SELECT product_id, external_code FROM mall.product WHERE external_code = ANY(:codes ::text[]);

-- name: hold
-- The product's rows are nobody else's until this transaction ends.
SELECT product_id, version FROM mall.product WHERE product_id = ANY(:products ::uuid[]) ORDER BY product_id FOR NO KEY UPDATE;

-- name: make
-- A new product; nothing where it was made before.
INSERT INTO mall.product (shop_id, product_id, status, title, title_en, subtitle, subtitle_en, description, description_en, specs, search,
    external_code, position, shipping_id, created_at, updated_at)
VALUES (mall.current_shop(), :product_id, 'draft', :title, :title_en, :subtitle, :subtitle_en, :description, :description_en, :specs ::jsonb,
    :search ::tsvector, NULLIF(:external_code ::text, ''), :position,
    (SELECT f.shipping_id FROM mall.shipping f WHERE f.shipping_id = :shipping_id ::uuid), :now, :now)
ON CONFLICT (shop_id, product_id) DO NOTHING RETURNING product_id;

-- name: change!
-- What is said about a product.
UPDATE mall.product SET title = :title, title_en = :title_en, subtitle = :subtitle, subtitle_en = :subtitle_en, description = :description,
    description_en = :description_en, search = :search ::tsvector, external_code = NULLIF(:external_code ::text, ''), position = :position,
    shipping_id = (SELECT f.shipping_id FROM mall.shipping f WHERE f.shipping_id = :shipping_id ::uuid), version = version + 1, updated_at = :now
WHERE product_id = :product_id;

-- name: set_categories!
-- In which categories it is; an id that is no category of the shop is left out.
WITH gone AS (
    DELETE FROM mall.product_category WHERE product_id = :product_id AND category_id <> ALL(:categories ::uuid[])
)
INSERT INTO mall.product_category (shop_id, product_id, category_id)
SELECT c.shop_id, :product_id, c.category_id FROM mall.category c WHERE c.category_id = ANY(:categories ::uuid[])
ON CONFLICT DO NOTHING;

-- name: add_skus!
-- New SKUs, each with a stock of nothing.
WITH added AS (
    INSERT INTO mall.sku (shop_id, sku_id, product_id, code, options, price_fen, compare_at_fen, weight_g, position)
    SELECT mall.current_shop(), w.sku_id, :product_id, w.code, ARRAY(SELECT jsonb_array_elements_text(w.options ::jsonb)), w.price_fen,
        w.compare_at_fen, w.weight_g, w.position
    FROM unnest(:skus ::uuid[], :codes ::text[], :options ::text[], :prices ::bigint[], :compare_at ::bigint[], :weights ::integer[],
        :positions ::integer[]) AS w (sku_id, code, options, price_fen, compare_at_fen, weight_g, position)
    RETURNING shop_id, sku_id
)
INSERT INTO mall.stock (shop_id, sku_id) SELECT shop_id, sku_id FROM added;

-- name: unname!
-- Texts that no other SKU can have: so that texts may change places.
UPDATE mall.sku SET options = ARRAY[sku_id::text] WHERE product_id = :product_id AND sku_id = ANY(:skus ::uuid[]);

-- name: arrange!
-- The texts of SKUs, their places, and whether they are offered.
UPDATE mall.sku k SET options = ARRAY(SELECT jsonb_array_elements_text(w.options ::jsonb)), position = w.position, active = w.active
FROM unnest(:skus ::uuid[], :options ::text[], :positions ::integer[], :active ::boolean[]) AS w (sku_id, options, position, active)
WHERE k.product_id = :product_id AND k.sku_id = w.sku_id;

-- name: set_specs!
UPDATE mall.product SET specs = :specs ::jsonb WHERE product_id = :product_id;

-- name: set_terms!
-- Prices, weights, codes of SKUs, and whether they are offered.
UPDATE mall.sku k SET code = w.code, price_fen = w.price_fen, compare_at_fen = w.compare_at_fen, weight_g = w.weight_g, active = w.active
FROM unnest(:skus ::uuid[], :codes ::text[], :prices ::bigint[], :compare_at ::bigint[], :weights ::integer[], :active ::boolean[])
    AS w (sku_id, code, price_fen, compare_at_fen, weight_g, active)
WHERE k.product_id = :product_id AND k.sku_id = w.sku_id;

-- name: set_prices!
-- Prices of SKUs of any products; a crossed-out price that is no longer above the price goes.
UPDATE mall.sku k SET price_fen = w.price_fen, compare_at_fen = CASE WHEN k.compare_at_fen > w.price_fen THEN k.compare_at_fen END
FROM unnest(:skus ::uuid[], :prices ::bigint[]) AS w (sku_id, price_fen) WHERE k.sku_id = w.sku_id;

-- name: refresh!
-- The range of prices that lists show, from the SKUs that are offered.
UPDATE mall.product p SET min_price_fen = COALESCE(k.least, 0), max_price_fen = COALESCE(k.most, 0), version = p.version + 1, updated_at = :now
FROM unnest(:products ::uuid[]) AS w (product_id)
CROSS JOIN LATERAL (
    SELECT min(price_fen) AS least, max(price_fen) AS most FROM mall.sku WHERE product_id = w.product_id AND active
) k
WHERE p.product_id = w.product_id;

-- name: set_status
-- Where products stand now; those that stood elsewhere.
UPDATE mall.product SET status = :status, version = version + 1, updated_at = :now
WHERE product_id = ANY(:products ::uuid[]) AND status <> :status RETURNING product_id;

-- name: nothing_offered
-- Which of these products have no SKU to buy.
SELECT product_id, title FROM mall.product p
WHERE product_id = ANY(:products ::uuid[]) AND NOT EXISTS (SELECT FROM mall.sku k WHERE k.product_id = p.product_id AND k.active);

-- name: archived
SELECT count(*) AS products FROM mall.product WHERE product_id = ANY(:products ::uuid[]) AND status = 'archived';

-- name: set_pictures!
UPDATE mall.product SET pictures = :pictures ::text[], version = version + 1, updated_at = :now WHERE product_id = :product_id;

-- name: into_category
-- Products into a category; those that were not in it.
INSERT INTO mall.product_category (shop_id, product_id, category_id)
SELECT p.shop_id, p.product_id, c.category_id FROM mall.product p CROSS JOIN mall.category c
WHERE p.product_id = ANY(:products ::uuid[]) AND c.category_id = :category_id ::uuid
ON CONFLICT DO NOTHING RETURNING product_id;

-- name: out_of_category
DELETE FROM mall.product_category WHERE product_id = ANY(:products ::uuid[]) AND category_id = :category_id ::uuid RETURNING product_id;

-- name: shippings
-- The ways of sending that a product can have.
SELECT shipping_id, name, is_default FROM mall.shipping WHERE archived_at IS NULL ORDER BY is_default DESC, name, shipping_id;
