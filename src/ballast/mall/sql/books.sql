-- name: days
-- What each day moved on each account.
SELECT day, account, sum(amount_fen)::bigint AS amount_fen FROM mall.posting
WHERE day >= :first ::date AND day <= :last ::date GROUP BY day, account ORDER BY day;

-- name: before
-- How each account stood at the end of the day before.
SELECT account, sum(amount_fen)::bigint AS amount_fen FROM mall.posting WHERE day < :first ::date GROUP BY account;

-- name: postings
-- The postings of some days, as they came; after_at, after_id and after_account are the last one of the page before.
SELECT p.transaction_id, p.account, p.amount_fen, p.order_id, o.number, p.day, p.at
FROM mall.posting p JOIN mall.orders o ON o.shop_id = p.shop_id AND o.order_id = p.order_id
WHERE p.day >= :first ::date AND p.day <= :last ::date
  AND (:after_at ::timestamptz IS NULL OR (p.at, p.transaction_id, p.account) > (:after_at ::timestamptz, :after_id ::uuid, :after_account ::text))
ORDER BY p.at, p.transaction_id, p.account LIMIT :most ::bigint;
