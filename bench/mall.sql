-- Shops of the mall, filled as a set. Ids say what they are of: the third group is 7…, the last one the number.
-- Shops up to :measured have :skus SKUs a product and :products products, the others one SKU and :elsewhere products.
SET synchronous_commit = off;
-- The rows are right by their making: checking each key of millions of them would take longer than writing them.
SET session_replication_role = replica;
CREATE FUNCTION pg_temp.id(kind integer, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(number), 12, '0'))::uuid $$;
INSERT INTO mall.directory (shop_id, slug, name, industry, plan, service_until)
SELECT pg_temp.id(1, s), 's' || s, '小店 ' || s, 'food', 'pro', now() + interval '1 year' FROM generate_series(%(first)s, %(last)s) s;
INSERT INTO mall.shop (shop_id, name, name_en, intro, intro_en, service_phone, levels)
SELECT pg_temp.id(1, s), '小店 ' || s, 'Shop ' || s, '好茶好价。', 'Good tea at good prices.', '400-820-8820',
    '[{"name": "普通", "name_en": "Basic", "from_fen": 0, "discount_bp": 0}, {"name": "金卡", "name_en": "Gold", "from_fen": 100000, "discount_bp": 500}]'
FROM generate_series(%(first)s, %(last)s) s;
INSERT INTO mall.shipping (shop_id, shipping_id, name, rules, is_default)
SELECT pg_temp.id(1, s), pg_temp.id(2, s), '快递', '{"unit": "weight", "rates": [{"provinces": [], "first": 1000, "first_fen": 800, "extra": 1000, "extra_fen": 200, "free_from_fen": 9900}]}', true
FROM generate_series(%(first)s, %(last)s) s;
INSERT INTO mall.page (shop_id, page_id, slug, title, title_en, draft, published, in_menu)
SELECT pg_temp.id(1, s), pg_temp.id(3, s), 'about', '关于我们', 'About us', '[]', '[]', true FROM generate_series(%(first)s, %(last)s) s;
INSERT INTO mall.full_reduction (shop_id, promotion_id, name, tiers, starts_at, ends_at)
SELECT pg_temp.id(1, s), pg_temp.id(4, s), '满减', '[{"from_fen": 20000, "off_fen": 2000}]', now() - interval '1 day', now() + interval '1 year'
FROM generate_series(%(first)s, %(last)s) s;
INSERT INTO mall.category (shop_id, category_id, name, name_en, position)
SELECT pg_temp.id(1, s), pg_temp.id(5, s * 10 + c), '分类 ' || c, 'Category ' || c, c FROM generate_series(%(first)s, %(last)s) s, generate_series(0, 9) c;
INSERT INTO mall.product (shop_id, product_id, status, title, title_en, subtitle, subtitle_en, description, description_en, specs, min_price_fen,
    max_price_fen, sold, search, position)
SELECT pg_temp.id(1, s), pg_temp.id(6, s * 10000 + p), 'on_sale', '商品 ' || p || ' 高山乌龙茶', 'Product ' || p || ' high mountain oolong',
    '清香型', 'Light and fragrant', '<p>' || repeat('采自海拔一千二百米的高山茶园，手工采摘。', 6) || '</p>',
    '<p>' || repeat('Picked by hand in gardens at 1,200 metres. ', 6) || '</p>',
    CASE WHEN s <= %(measured)s THEN '[{"name": "规格", "name_en": "Size", "values": [{"value": "50 克", "value_en": "50 g"}, {"value": "250 克", "value_en": "250 g"}, {"value": "500 克", "value_en": "500 g"}]}]'::jsonb ELSE '[]' END,
    1000 + p * 7 %% 5000, 1000 + p * 7 %% 5000 + CASE WHEN s <= %(measured)s THEN 1000 ELSE 0 END, p * 13 %% 997,
    to_tsvector('simple', 'product ' || p || ' high mountain oolong 高山 山乌 乌龙 龙茶'), p
FROM generate_series(%(first)s, %(last)s) s, generate_series(1, CASE WHEN s <= %(measured)s THEN %(products)s ELSE %(elsewhere)s END) p;
INSERT INTO mall.product_category (shop_id, product_id, category_id)
SELECT pg_temp.id(1, s), pg_temp.id(6, s * 10000 + p), pg_temp.id(5, s * 10 + p %% 10)
FROM generate_series(%(first)s, %(last)s) s, generate_series(1, CASE WHEN s <= %(measured)s THEN %(products)s ELSE %(elsewhere)s END) p;
INSERT INTO mall.sku (shop_id, sku_id, product_id, options, price_fen, weight_g, position)
SELECT pg_temp.id(1, s), pg_temp.id(16 + k, s * 10000 + p), pg_temp.id(6, s * 10000 + p),
    CASE WHEN s <= %(measured)s THEN ARRAY[(ARRAY['50 克', '250 克', '500 克'])[k + 1]] ELSE '{}' END, 1000 + p * 7 %% 5000 + k * 500, 250, k
FROM generate_series(%(first)s, %(last)s) s, generate_series(1, CASE WHEN s <= %(measured)s THEN %(products)s ELSE %(elsewhere)s END) p,
    generate_series(0, CASE WHEN s <= %(measured)s THEN 2 ELSE 0 END) k;
INSERT INTO mall.stock (shop_id, sku_id, on_hand)
SELECT pg_temp.id(1, s), pg_temp.id(16 + k, s * 10000 + p), 100000000
FROM generate_series(%(first)s, %(last)s) s, generate_series(1, CASE WHEN s <= %(measured)s THEN %(products)s ELSE %(elsewhere)s END) p,
    generate_series(0, CASE WHEN s <= %(measured)s THEN 2 ELSE 0 END) k;
-- Guests whose tokens a program knows: guest-<shop>-<number>.
INSERT INTO mall.visitor (shop_id, visitor_id, token_hash, expires_at)
SELECT pg_temp.id(1, s), pg_temp.id(32, s * 100 + v), sha256(convert_to('guest-' || s || '-' || v, 'UTF8')), now() + interval '80 days'
FROM generate_series(%(first)s, LEAST(%(last)s, %(measured)s)) s, generate_series(0, 9) v;
-- Gift cards whose codes a program knows (`mall.gift_code`), each with more on it than a measurement spends.
INSERT INTO mall.gift_card (shop_id, card_id, code_hash, last4, initial_fen, balance_fen, issued_by)
SELECT pg_temp.id(1, s), pg_temp.id(48, s * 100 + n), sha256(convert_to(code, 'UTF8')), right(code, 4), 100000000000, 100000000000, 'bench'
FROM generate_series(%(first)s, LEAST(%(last)s, %(measured)s)) s, generate_series(0, 31) n,
    LATERAL (SELECT 'GFT' || translate(lpad((s * 100 + n)::text, 13, '0'), '0123456789', 'ABCDEFGHJK') AS code) c;
INSERT INTO mall.gift_card_movement (shop_id, movement_id, card_id, kind, amount_fen, actor)
SELECT shop_id, card_id, card_id, 'issued', initial_fen, 'bench' FROM mall.gift_card c
WHERE NOT EXISTS (SELECT FROM mall.gift_card_movement m WHERE m.shop_id = c.shop_id AND m.movement_id = c.card_id);
SET session_replication_role = origin;
VACUUM ANALYZE
