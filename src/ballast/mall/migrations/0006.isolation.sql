-- depends: 0005.operations

-- Row-level security on every table of a shop, for the tables' owner too. The application sees the shop that its transaction
-- named; who looks up identities sees who works where; the platform's operators read, and write only what opens a shop.
DO $$
DECLARE
    of_shop text;
BEGIN
    FOREACH of_shop IN ARRAY ARRAY[
        'shop', 'staff', 'picture', 'category', 'product', 'product_category', 'sku', 'stock', 'stock_movement', 'shipping', 'page',
        'customer', 'visitor', 'address', 'reset_code', 'cart_line', 'coupon', 'coupon_claim', 'full_reduction', 'limited_price',
        'orders', 'order_line', 'order_event', 'payment', 'payment_callback', 'shipment', 'refund', 'posting', 'points_entry',
        'idempotency', 'outbox', 'webhook', 'webhook_delivery', 'api_key', 'audit', 'visit_hour', 'exception', 'exception_deed'
    ] LOOP
        EXECUTE format('ALTER TABLE mall.%I ENABLE ROW LEVEL SECURITY', of_shop);
        EXECUTE format('ALTER TABLE mall.%I FORCE ROW LEVEL SECURITY', of_shop);
        EXECUTE format('CREATE POLICY of_shop ON mall.%I TO mall_app USING (shop_id = mall.current_shop()) WITH CHECK (shop_id = mall.current_shop())', of_shop);
        EXECUTE format('CREATE POLICY of_platform ON mall.%I FOR SELECT TO mall_platform USING (true)', of_shop);
        EXECUTE format('GRANT SELECT, INSERT ON mall.%I TO mall_app', of_shop);
        EXECUTE format('GRANT SELECT ON mall.%I TO mall_platform', of_shop);
    END LOOP;
    -- What may be changed at all. The rest (movements, events, callbacks, postings, points, audit) is only ever added to.
    FOREACH of_shop IN ARRAY ARRAY[
        'shop', 'staff', 'category', 'product', 'sku', 'stock', 'shipping', 'page', 'customer', 'visitor', 'address', 'reset_code', 'cart_line',
        'coupon', 'coupon_claim', 'full_reduction', 'limited_price', 'orders', 'order_line', 'payment', 'refund', 'idempotency', 'outbox', 'webhook',
        'webhook_delivery', 'api_key', 'visit_hour', 'exception'
    ] LOOP
        EXECUTE format('GRANT UPDATE ON mall.%I TO mall_app', of_shop);
    END LOOP;
    -- What may be deleted: nothing that anybody could miss.
    FOREACH of_shop IN ARRAY ARRAY['product_category', 'category', 'address', 'reset_code', 'cart_line', 'visitor', 'page', 'idempotency', 'outbox', 'webhook_delivery'] LOOP
        EXECUTE format('GRANT DELETE ON mall.%I TO mall_app', of_shop);
    END LOOP;
END $$;

-- … and of what goes out only what went: an event or a message that waits is deleted by nobody.
CREATE POLICY waiting_stays ON mall.outbox AS RESTRICTIVE FOR DELETE TO mall_app USING (dispatched_at IS NOT NULL);
CREATE POLICY waiting_stays ON mall.webhook_delivery AS RESTRICTIVE FOR DELETE TO mall_app USING (status <> 'waiting');

REVOKE SELECT ON mall.webhook, mall.api_key, mall.visitor, mall.customer, mall.reset_code, mall.payment_callback, mall.exception_deed FROM mall_platform;
GRANT SELECT (shop_id, customer_id, name, created_at) ON mall.customer TO mall_platform;
GRANT SELECT (shop_id, webhook_id, failing_since) ON mall.webhook TO mall_platform;

-- Everybody may look up a shop by its address; a shop renames itself and no other.
GRANT UPDATE (name) ON mall.directory TO mall_app;
ALTER TABLE mall.directory ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_by_all ON mall.directory FOR SELECT USING (true);
CREATE POLICY renamed_by_shop ON mall.directory FOR UPDATE TO mall_app USING (shop_id = mall.current_shop()) WITH CHECK (shop_id = mall.current_shop());
CREATE POLICY of_platform ON mall.directory TO mall_platform USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE ON mall.staff TO mall_identity;
CREATE POLICY of_identity ON mall.staff TO mall_identity USING (true) WITH CHECK (true);

-- What the platform or a sign-in did to a shop stands in the shop's own record too.
GRANT INSERT ON mall.audit TO mall_identity, mall_platform;
CREATE POLICY added_by_identity ON mall.audit FOR INSERT TO mall_identity WITH CHECK (true);
CREATE POLICY added_by_platform ON mall.audit FOR INSERT TO mall_platform WITH CHECK (true);

-- A shop is opened by the platform: its first row, its first owner, its first pages.
GRANT INSERT ON mall.shop, mall.staff, mall.shipping, mall.page TO mall_platform;
CREATE POLICY opened_by_platform ON mall.shop FOR INSERT TO mall_platform WITH CHECK (true);
CREATE POLICY opened_by_platform ON mall.staff FOR INSERT TO mall_platform WITH CHECK (true);
CREATE POLICY opened_by_platform ON mall.shipping FOR INSERT TO mall_platform WITH CHECK (true);
CREATE POLICY opened_by_platform ON mall.page FOR INSERT TO mall_platform WITH CHECK (true);

INSERT INTO mall.industry (code, name_zh, name_en, margin_bp) VALUES
    ('apparel', '服饰鞋包', 'Apparel', 3500), ('food', '食品生鲜', 'Food', 2500), ('beauty', '美妆个护', 'Beauty', 4500),
    ('home', '家居日用', 'Home', 3000), ('electronics', '数码家电', 'Electronics', 1200), ('mother_baby', '母婴', 'Mother and baby', 2800),
    ('books', '图书文创', 'Books and gifts', 2600), ('services', '本地生活', 'Local services', 4000), ('other', '其他', 'Other', 3000);
INSERT INTO mall.plan (code, name_zh, name_en, month_fen, max_products, max_staff, rank, max_pictures_mb) VALUES
    ('basic', '基础版', 'Basic', 29900, 2000, 5, 300, 2000), ('pro', '专业版', 'Pro', 89900, 20000, 20, 200, 20000), ('flagship', '旗舰版', 'Flagship', 299900, 200000, 200, 100, 200000);
