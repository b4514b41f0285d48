-- name: there
-- (as the platform's role) Which of these shops are there, or whose address is taken.
SELECT shop_id, slug FROM mall.directory WHERE shop_id = ANY(:shops ::uuid[]) OR slug = ANY(:slugs ::text[]);
