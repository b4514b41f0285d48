-- A shop platform of eight tables, each with the tenant column first in its key.
CREATE TABLE shops (shop_id int PRIMARY KEY, name text NOT NULL, opened_at timestamptz NOT NULL);
CREATE TABLE categories (shop_id int REFERENCES shops, id int, name text NOT NULL, PRIMARY KEY (shop_id, id));
CREATE TABLE products (
    shop_id int, id int, category_id int NOT NULL, title text NOT NULL, description text NOT NULL, attributes jsonb NOT NULL,
    updated_at timestamptz NOT NULL, PRIMARY KEY (shop_id, id),
    FOREIGN KEY (shop_id, category_id) REFERENCES categories);
CREATE TABLE skus (
    shop_id int, id int, product_id int NOT NULL, code text NOT NULL, price_fen bigint NOT NULL, stock int NOT NULL,
    PRIMARY KEY (shop_id, id), UNIQUE (shop_id, code), FOREIGN KEY (shop_id, product_id) REFERENCES products);
CREATE TABLE customers (
    shop_id int REFERENCES shops, id int, name text NOT NULL, phone text NOT NULL, points int NOT NULL, joined_at timestamptz NOT NULL,
    PRIMARY KEY (shop_id, id));
CREATE TABLE orders (
    shop_id int, id bigint, customer_id int NOT NULL, state text NOT NULL, total_fen bigint NOT NULL, address jsonb NOT NULL,
    created_at timestamptz NOT NULL, PRIMARY KEY (shop_id, id), FOREIGN KEY (shop_id, customer_id) REFERENCES customers);
CREATE TABLE order_lines (
    shop_id int, order_id bigint, line int, sku_id int NOT NULL, quantity int NOT NULL, price_fen bigint NOT NULL,
    PRIMARY KEY (shop_id, order_id, line), FOREIGN KEY (shop_id, order_id) REFERENCES orders,
    FOREIGN KEY (shop_id, sku_id) REFERENCES skus);
CREATE TABLE payments (
    shop_id int, id uuid, order_id bigint NOT NULL, amount_fen bigint NOT NULL, provider text NOT NULL, paid_at timestamptz NOT NULL,
    PRIMARY KEY (shop_id, id), FOREIGN KEY (shop_id, order_id) REFERENCES orders);
CREATE INDEX orders_by_time ON orders (shop_id, created_at);
CREATE INDEX order_lines_by_sku ON order_lines (shop_id, sku_id);
