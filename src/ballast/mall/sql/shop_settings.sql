-- name: read
SELECT name, name_en, intro, intro_en, notice, notice_en, logo_picture, service_phone, language, theme_colour, pay_within_s, receive_within_s,
    pickup_address, return_address, version
FROM mall.shop;

-- name: write
-- No row where somebody else has changed them since they were read.
UPDATE mall.shop SET name = :name, name_en = :name_en, intro = :intro, intro_en = :intro_en, notice = :notice, notice_en = :notice_en,
    logo_picture = :logo_picture, service_phone = :service_phone, language = :language, theme_colour = :theme_colour, pay_within_s = :pay_within_s,
    receive_within_s = :receive_within_s, pickup_address = :pickup_address, return_address = :return_address,
    version = version + 1, updated_at = :now
WHERE version = :version RETURNING version;

-- name: rename!
-- As the platform's list calls it.
UPDATE mall.directory SET name = :name WHERE shop_id = mall.current_shop() AND name <> :name;
