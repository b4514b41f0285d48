-- name: all_of
-- The home page first, then the free pages in the menu's order.
SELECT page_id, slug, title, title_en, in_menu, position, version, published_at, updated_at, published IS NOT NULL AS is_published,
    published IS DISTINCT FROM draft AS has_changes
FROM mall.page ORDER BY slug <> '', position, slug;

-- name: one
-- With its draft.
SELECT page_id, slug, title, title_en, in_menu, position, version, published_at, updated_at, published IS NOT NULL AS is_published,
    published IS DISTINCT FROM draft AS has_changes, draft::text AS draft
FROM mall.page WHERE page_id = :page_id;

-- name: add
-- No row where the shop has a page of this slug.
INSERT INTO mall.page (shop_id, page_id, slug, title, title_en, in_menu, position, draft, updated_at)
VALUES (mall.current_shop(), :page_id, :slug, :title, :title_en, :in_menu, :position, :draft ::jsonb, :now)
ON CONFLICT (shop_id, slug) DO NOTHING RETURNING page_id;

-- name: describe
UPDATE mall.page SET title = :title, title_en = :title_en, in_menu = :in_menu, position = :position, version = version + 1, updated_at = :now
WHERE page_id = :page_id AND version = :version RETURNING version;

-- name: write
-- Another draft, if it is made of the version that is there.
UPDATE mall.page SET draft = :draft ::jsonb, version = version + 1, updated_at = :now
WHERE page_id = :page_id AND version = :version RETURNING version;

-- name: publish
-- What is seen is the draft from now on.
UPDATE mall.page SET published = draft, published_at = :now, version = version + 1, updated_at = :now
WHERE page_id = :page_id AND version = :version RETURNING version;

-- name: hide
-- A free page is not seen any more; its draft stays.
UPDATE mall.page SET published = NULL, published_at = NULL, version = version + 1, updated_at = :now
WHERE page_id = :page_id AND version = :version AND slug <> '' RETURNING version;

-- name: remove
DELETE FROM mall.page WHERE page_id = :page_id AND version = :version AND slug <> '' RETURNING title;
