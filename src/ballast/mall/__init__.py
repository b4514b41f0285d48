"""The mall: a platform on which merchants open shops, shoppers buy, and an operator runs it all.

Every row of a shop carries its ``shop_id``; the database lets a transaction see the one shop that it has named, and no other
(``db``, ``migrations``). What is worked out (prices, an order's life, refunds, books) is in ``rules``: plain functions without a
database. What is done (a checkout, a payment, a refund) is in the modules beside: one transaction each, written in ``sql``.
``web`` has the faces: the storefront, the merchants' admin, the platform's admin, the API.

The mall runs on any PostgreSQL. It does not know that somebody records what it does.
"""
