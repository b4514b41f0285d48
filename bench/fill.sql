-- Fills the shops :first to :last. A shop of size 1 has 500 rows in the eight tables, one of size 4 has 1,997.
CREATE TEMP TABLE size AS SELECT s AS shop_id, CASE WHEN s %% %(large_every)s = 0 THEN 4 ELSE 1 END AS f
FROM generate_series(1, %(tenants)s) AS s;
INSERT INTO shops SELECT shop_id, 'Shop ' || shop_id, '2019-01-01Z'::timestamptz + shop_id * interval '1 hour' FROM size;
INSERT INTO categories SELECT shop_id, i, 'Category ' || i FROM size, generate_series(1, 9 * f) AS i;
INSERT INTO products SELECT shop_id, i, 1 + i %% 9, 'Product ' || i || ' ' || md5((shop_id * 31 + i)::text),
    repeat('A fine thing from shop ' || shop_id || '. ', 4), jsonb_build_object('colour', i %% 7, 'weight_g', i * 13, 'tags', ARRAY['new', 'sale']),
    '2020-02-01Z'::timestamptz + i * interval '1 minute' FROM size, generate_series(1, 40 * f) AS i;
INSERT INTO skus SELECT shop_id, i, 1 + i %% (40 * f), 'SKU-' || shop_id || '-' || i, 100 + (shop_id * 7 + i * 13) %% 99900, i %% 50
FROM size, generate_series(1, 80 * f) AS i;
INSERT INTO customers SELECT shop_id, i, 'Customer ' || md5((shop_id * 17 + i)::text), '138' || lpad(((shop_id * 977 + i) %% 100000000)::text, 8, '0'),
    i * 3, '2019-06-01Z'::timestamptz + (shop_id + i) * interval '1 minute' FROM size, generate_series(1, 60 * f) AS i;
INSERT INTO orders SELECT shop_id, i, 1 + i %% (60 * f), (ARRAY['paid', 'shipped', 'received', 'closed'])[1 + i %% 4], 1000 + (shop_id * 11 + i * 7) %% 90000,
    jsonb_build_object('city', (ARRAY['上海', '北京', '广州', '成都'])[1 + i %% 4], 'street', 'Road ' || i, 'zip', 200000 + i),
    '2020-01-01Z'::timestamptz + (shop_id %% 1000 * 60 + i * 433) * interval '1 second' FROM size, generate_series(1, 90 * f) AS i;
INSERT INTO order_lines SELECT shop_id, 1 + i %% (90 * f), i, 1 + i %% (80 * f), 1 + i %% 3, 100 + (i * 37) %% 9900
FROM size, generate_series(1, 160 * f) AS i;
INSERT INTO payments SELECT shop_id, md5(shop_id || '-' || i)::uuid, 1 + i %% (90 * f), 1000 + (i * 91) %% 90000, 'wechat',
    '2020-01-02Z'::timestamptz + i * interval '7 minutes' FROM size, generate_series(1, 60 * f) AS i;
DROP TABLE size;
