"""Rules of the mall: what things cost, what may happen to an order, what may go back. Records in, records out.

Nothing here reads or writes, knows the time or throws dice: moments, ids and facts come in as arguments. So every rule is
tried over all its cases in the tests, and holds for a page, the API, a job and an order that is merged after an outage alike.

Money is whole fen (`money`). `pricing` works out an order's `breakdown` from `discounts` and `shipping`, through the
arithmetic of one `combination`; `coupons` says who may use one, `levels` what members get. `states` is an order's life,
`refunding` that of a refund and its amounts (`machine`: tables of states), `books` the double entry of both.
`numbers` are order numbers, `skus` a product's matrix, `bigrams` search, `blocks` decorated pages. A rule that says no
raises `refused.Refused`, whose key names the text to show.
"""
