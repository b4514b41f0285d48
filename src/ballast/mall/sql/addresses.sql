-- name: all_of
-- Where a member has things sent, the usual place first.
SELECT address_id, name, phone, province, city, district, street, is_default FROM mall.address
WHERE customer_id = :customer_id ORDER BY is_default DESC, address_id;

-- name: one
SELECT address_id, name, phone, province, city, district, street, is_default FROM mall.address
WHERE customer_id = :customer_id AND address_id = :address_id;

-- name: hold
-- Nobody else changes a member's addresses until this transaction ends.
SELECT customer_id FROM mall.customer WHERE customer_id = :customer_id FOR NO KEY UPDATE;

-- name: save
-- A new address, or another text of one; no row where the id is somebody else's.
INSERT INTO mall.address (shop_id, address_id, customer_id, name, phone, province, city, district, street, is_default)
VALUES (mall.current_shop(), :address_id, :customer_id, :name, :phone, :province, :city, :district, :street, :is_default)
ON CONFLICT (shop_id, address_id) DO UPDATE SET name = EXCLUDED.name, phone = EXCLUDED.phone, province = EXCLUDED.province,
    city = EXCLUDED.city, district = EXCLUDED.district, street = EXCLUDED.street, is_default = EXCLUDED.is_default
WHERE address.customer_id = EXCLUDED.customer_id
RETURNING address_id;

-- name: make_default!
-- The usual one, and no other.
UPDATE mall.address SET is_default = address_id = :address_id
WHERE customer_id = :customer_id AND is_default <> (address_id = :address_id);

-- name: delete
DELETE FROM mall.address WHERE customer_id = :customer_id AND address_id = :address_id RETURNING address_id;
