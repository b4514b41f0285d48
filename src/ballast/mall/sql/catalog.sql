-- name: shop
-- The shop of a slug: where it stands, and what it looks like (`look`, once its transaction has begun).
SELECT shop_id, slug, name, status FROM mall.directory WHERE slug = :slug;

-- name: look
-- How a shop presents itself, with the pages of its menu.
SELECT h.name, h.name_en, h.intro, h.intro_en, h.notice, h.notice_en, h.logo_picture, h.service_phone, h.language, h.theme_colour,
    h.pickup_address, h.return_address,
    h.levels::text AS levels, h.points_per_yuan,
    (SELECT COALESCE(json_agg(json_build_object('slug', p.slug, 'title', p.title, 'title_en', p.title_en) ORDER BY p.position, p.slug), '[]')
     FROM mall.page p
     WHERE p.shop_id = h.shop_id AND p.in_menu AND p.published IS NOT NULL AND p.slug <> '')::text AS menu
FROM mall.shop h;

-- name: page
-- A published page; the home page has the empty slug.
SELECT title, title_en, published::text AS published FROM mall.page WHERE slug = :slug AND published IS NOT NULL;

-- name: categories
-- The visible categories.
SELECT category_id, parent_id, name, name_en, picture FROM mall.category WHERE visible ORDER BY position, category_id;

-- name: category
-- One of them.
SELECT category_id, parent_id, name, name_en, picture FROM mall.category WHERE visible AND category_id = :category_id;

-- name: listed
-- A page of products in the shop's own order.
SELECT product_id, title, title_en, subtitle, subtitle_en, pictures[1] AS picture, min_price_fen, max_price_fen, sold, position
FROM mall.product
WHERE status = 'on_sale' AND (position, product_id) > (:after_position ::integer, :after_id ::uuid)
ORDER BY position, product_id LIMIT :most;

-- name: listed_of_category
-- … of a category.
SELECT p.product_id, p.title, p.title_en, p.subtitle, p.subtitle_en, p.pictures[1] AS picture, p.min_price_fen, p.max_price_fen, p.sold, p.position
FROM mall.product_category c JOIN mall.product p USING (shop_id, product_id)
WHERE c.category_id = :category_id AND p.status = 'on_sale' AND (p.position, p.product_id) > (:after_position ::integer, :after_id ::uuid)
ORDER BY p.position, p.product_id LIMIT :most;

-- name: found
-- … of a search (a tsquery of rules.bigrams).
SELECT product_id, title, title_en, subtitle, subtitle_en, pictures[1] AS picture, min_price_fen, max_price_fen, sold, position
FROM mall.product
WHERE status = 'on_sale' AND search @@ :query ::tsquery AND (position, product_id) > (:after_position ::integer, :after_id ::uuid)
ORDER BY position, product_id LIMIT :most;

-- name: newest
-- The products that were made last: their ids sort by time.
SELECT product_id, title, title_en, subtitle, subtitle_en, pictures[1] AS picture, min_price_fen, max_price_fen, sold, position
FROM mall.product WHERE status = 'on_sale' ORDER BY product_id DESC LIMIT :most;

-- name: bestselling
-- The products of which most were sold.
SELECT product_id, title, title_en, subtitle, subtitle_en, pictures[1] AS picture, min_price_fen, max_price_fen, sold, position
FROM mall.product WHERE status = 'on_sale' ORDER BY sold DESC, product_id DESC LIMIT :most;

-- name: chosen
-- These products, as far as they are on sale.
SELECT product_id, title, title_en, subtitle, subtitle_en, pictures[1] AS picture, min_price_fen, max_price_fen, sold, position
FROM mall.product WHERE status = 'on_sale' AND product_id = ANY(:products ::uuid[]);

-- name: product
-- A product that is on sale, and what can be chosen of it: with stock, and the lowest limited-time price that holds now.
SELECT p.product_id, p.title, p.title_en, p.subtitle, p.subtitle_en, p.description, p.description_en, p.specs::text AS specs, p.pictures,
    p.min_price_fen, p.max_price_fen, p.sold,
    (SELECT json_agg(json_build_object('sku_id', k.sku_id, 'options', k.options, 'price_fen', k.price_fen, 'compare_at_fen', k.compare_at_fen,
        'free', COALESCE(s.on_hand - s.reserved, 0), 'limited_fen', l.price_fen, 'limited_until', l.ends_at) ORDER BY k.position, k.sku_id)
     FROM mall.sku k
     LEFT JOIN mall.stock s USING (shop_id, sku_id)
     LEFT JOIN LATERAL (
         SELECT o.price_fen, o.ends_at FROM mall.limited_price o
         WHERE o.shop_id = k.shop_id AND o.sku_id = k.sku_id AND o.stopped_at IS NULL AND :now ::timestamptz >= o.starts_at
           AND :now ::timestamptz < o.ends_at AND (o.quota IS NULL OR o.sold < o.quota) AND o.price_fen < k.price_fen
         ORDER BY o.price_fen, o.promotion_id LIMIT 1
     ) l ON true
     WHERE k.shop_id = p.shop_id AND k.product_id = p.product_id AND k.active)::text AS choices
FROM mall.product p WHERE p.product_id = :product_id AND p.status = 'on_sale';

-- name: host
-- The slug of the shop that has this host name.
SELECT d.slug FROM mall.hostname h JOIN mall.directory d USING (shop_id) WHERE h.host = :host;
