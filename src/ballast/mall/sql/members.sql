-- name: listed
-- Customers, the newest first, or who has this phone or address.
SELECT customer_id, name, phone, email, level, points, spent_fen, external_code, created_at
FROM mall.customer
WHERE (:login ::text IS NULL OR phone = :login ::text OR email = lower(:login ::text)) AND (:before ::uuid IS NULL OR customer_id < :before ::uuid)
ORDER BY customer_id DESC LIMIT :most ::integer;

-- name: member
-- One of them.
SELECT customer_id, name, phone, email, level, points, spent_fen, external_code, created_at FROM mall.customer WHERE customer_id = :customer_id;
