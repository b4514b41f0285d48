-- depends: 0001.platform

-- A shop, its people, its goods. Every key begins with shop_id, so that the tables can be distributed by it.

CREATE TABLE mall.shop (
    shop_id           uuid PRIMARY KEY,
    name              text NOT NULL,
    name_en           text NOT NULL DEFAULT '',
    intro             text NOT NULL DEFAULT '',
    intro_en          text NOT NULL DEFAULT '',
    notice            text NOT NULL DEFAULT '',
    notice_en         text NOT NULL DEFAULT '',
    logo_picture      text,
    service_phone     text NOT NULL DEFAULT '',
    language          text NOT NULL DEFAULT 'zh' CHECK (language IN ('zh', 'en')),
    theme_colour      text NOT NULL DEFAULT '#07c160' CHECK (theme_colour ~ '^#[0-9a-f]{6}$'),
    pay_within_s      integer NOT NULL DEFAULT 1800 CHECK (pay_within_s BETWEEN 60 AND 604800),
    receive_within_s  integer NOT NULL DEFAULT 864000 CHECK (receive_within_s > 0),
    pickup_address    text NOT NULL DEFAULT '',
    return_address    text NOT NULL DEFAULT '',
    points_per_yuan   integer NOT NULL DEFAULT 1 CHECK (points_per_yuan BETWEEN 0 AND 100),
    levels            jsonb NOT NULL DEFAULT '[]',
    version           bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN mall.shop.notice IS 'one line at the top of the storefront; empty: none';
COMMENT ON COLUMN mall.shop.return_address IS 'where goods go back to: shown with a refund that awaits them';
COMMENT ON COLUMN mall.shop.levels IS 'member levels: [{"name","name_en","from_fen","discount_bp"}], lowest first';

CREATE TABLE mall.staff (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    account_id   uuid NOT NULL,
    role         text NOT NULL CHECK (role IN ('owner', 'manager', 'clerk', 'finance', 'viewer')),
    removed_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, account_id)
);

CREATE TABLE mall.picture (
    shop_id        uuid NOT NULL REFERENCES mall.shop,
    picture        text NOT NULL CHECK (picture ~ '^[0-9a-f]{64}$'),
    media_type     text NOT NULL CHECK (media_type IN ('image/webp', 'image/png', 'image/jpeg')),
    width          integer NOT NULL CHECK (width > 0),
    height         integer NOT NULL CHECK (height > 0),
    size_bytes     integer NOT NULL CHECK (size_bytes > 0),
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, picture)
);
COMMENT ON COLUMN mall.picture.picture IS 'SHA-256 of the stored original, which is its name in the store';

CREATE TABLE mall.category (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    category_id  uuid NOT NULL,
    parent_id    uuid,
    name         text NOT NULL,
    name_en      text NOT NULL DEFAULT '',
    picture      text,
    position     integer NOT NULL DEFAULT 0,
    visible      boolean NOT NULL DEFAULT true,
    PRIMARY KEY (shop_id, category_id),
    FOREIGN KEY (shop_id, parent_id) REFERENCES mall.category
);

CREATE TABLE mall.product (
    shop_id         uuid NOT NULL REFERENCES mall.shop,
    product_id      uuid NOT NULL,
    status          text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'on_sale', 'off_sale', 'archived')),
    title           text NOT NULL,
    title_en        text NOT NULL DEFAULT '',
    subtitle        text NOT NULL DEFAULT '',
    subtitle_en     text NOT NULL DEFAULT '',
    description     text NOT NULL DEFAULT '',
    description_en  text NOT NULL DEFAULT '',
    specs           jsonb NOT NULL DEFAULT '[]',
    pictures        text[] NOT NULL DEFAULT '{}',
    min_price_fen   bigint NOT NULL DEFAULT 0,
    max_price_fen   bigint NOT NULL DEFAULT 0,
    sold            bigint NOT NULL DEFAULT 0,
    shipping_id     uuid,
    search          tsvector NOT NULL DEFAULT '',
    external_code   text,
    position        integer NOT NULL DEFAULT 0,
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, product_id)
);
CREATE INDEX product_listed ON mall.product (shop_id, position, product_id) WHERE status = 'on_sale';
CREATE UNIQUE INDEX product_external_code ON mall.product (shop_id, external_code) WHERE external_code IS NOT NULL;
COMMENT ON COLUMN mall.product.specs IS 'the option matrix: [{"name","name_en","values":[{"value","value_en"}]}]; [] has one SKU';
COMMENT ON COLUMN mall.product.search IS 'bigrams of Chinese and words of all languages, made by the application (rules.bigrams)';
COMMENT ON COLUMN mall.product.description IS 'HTML, sanitised when it was written';

CREATE TABLE mall.product_category (
    shop_id      uuid NOT NULL,
    product_id   uuid NOT NULL,
    category_id  uuid NOT NULL,
    PRIMARY KEY (shop_id, category_id, product_id),
    FOREIGN KEY (shop_id, product_id) REFERENCES mall.product,
    FOREIGN KEY (shop_id, category_id) REFERENCES mall.category
);
CREATE INDEX product_category_product ON mall.product_category (shop_id, product_id);

CREATE TABLE mall.sku (
    shop_id         uuid NOT NULL,
    sku_id          uuid NOT NULL,
    product_id      uuid NOT NULL,
    code            text NOT NULL DEFAULT '',
    options         text[] NOT NULL DEFAULT '{}',
    price_fen       bigint NOT NULL CHECK (price_fen BETWEEN 0 AND 100000000000),
    compare_at_fen  bigint CHECK (compare_at_fen > price_fen),
    weight_g        integer NOT NULL DEFAULT 0 CHECK (weight_g >= 0),
    active          boolean NOT NULL DEFAULT true,
    position        integer NOT NULL DEFAULT 0,
    PRIMARY KEY (shop_id, sku_id),
    UNIQUE (shop_id, product_id, options),
    FOREIGN KEY (shop_id, product_id) REFERENCES mall.product
);
COMMENT ON COLUMN mall.sku.options IS 'one value a spec of the product, in the order of its specs';

-- Apart from mall.sku, since it changes with every order.
CREATE TABLE mall.stock (
    shop_id    uuid NOT NULL,
    sku_id     uuid NOT NULL,
    on_hand    integer NOT NULL DEFAULT 0 CHECK (on_hand >= 0),
    reserved   integer NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (shop_id, sku_id),
    FOREIGN KEY (shop_id, sku_id) REFERENCES mall.sku,
    CONSTRAINT stock_not_oversold CHECK (reserved <= on_hand)
);

CREATE TABLE mall.stock_movement (
    shop_id      uuid NOT NULL,
    movement_id  uuid NOT NULL,
    sku_id       uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('receive', 'adjust', 'reserve', 'release', 'sell', 'return', 'import')),
    on_hand      integer NOT NULL,
    reserved     integer NOT NULL,
    order_id     uuid,
    actor        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, movement_id),
    FOREIGN KEY (shop_id, sku_id) REFERENCES mall.sku
);
CREATE INDEX stock_movement_sku ON mall.stock_movement (shop_id, sku_id, at);
COMMENT ON COLUMN mall.stock_movement.on_hand IS 'by how much it changed: the sum over a SKU is its stock';
COMMENT ON COLUMN mall.stock_movement.reserved IS 'by how much the reserved part changed';

CREATE TABLE mall.shipping (
    shop_id      uuid NOT NULL REFERENCES mall.shop,
    shipping_id  uuid NOT NULL,
    name         text NOT NULL,
    rules        jsonb NOT NULL,
    is_default   boolean NOT NULL DEFAULT false,
    archived_at  timestamptz,
    PRIMARY KEY (shop_id, shipping_id)
);
CREATE UNIQUE INDEX shipping_default ON mall.shipping (shop_id) WHERE is_default;
ALTER TABLE mall.product ADD FOREIGN KEY (shop_id, shipping_id) REFERENCES mall.shipping;

CREATE TABLE mall.page (
    shop_id       uuid NOT NULL REFERENCES mall.shop,
    page_id       uuid NOT NULL,
    slug          text NOT NULL CHECK (slug ~ '^[a-z0-9-]{0,60}$'),
    title         text NOT NULL,
    title_en      text NOT NULL DEFAULT '',
    draft         jsonb NOT NULL DEFAULT '[]',
    published     jsonb,
    published_at  timestamptz,
    in_menu       boolean NOT NULL DEFAULT false,
    position      integer NOT NULL DEFAULT 0,
    version       bigint NOT NULL DEFAULT 1,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, page_id),
    UNIQUE (shop_id, slug)
);
COMMENT ON COLUMN mall.page.slug IS 'empty: the home page';
