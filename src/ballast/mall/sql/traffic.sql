-- name: lightly!
-- Counts need not be on the disk before somebody goes on.
SELECT set_config('synchronous_commit', 'off', true);

-- name: add!
-- What a process counted for an hour of the shop.
INSERT INTO mall.visit_hour (shop_id, hour, views, visitors, carts, checkouts)
VALUES (mall.current_shop(), :hour, :views, :visitors, :carts, :checkouts)
ON CONFLICT (shop_id, hour) DO UPDATE SET views = visit_hour.views + EXCLUDED.views, visitors = visit_hour.visitors + EXCLUDED.visitors,
    carts = visit_hour.carts + EXCLUDED.carts, checkouts = visit_hour.checkouts + EXCLUDED.checkouts;
