"""Whatever the shop's people and the buyer do with an order, in whatever order: no fen and no piece is there twice or lost."""

from __future__ import annotations

import contextlib
import random
from uuid import UUID

import pytest

from ballast.mall import aftersales, fulfilment, orders
from ballast.mall.aftersales import Asked
from ballast.mall.ids import new_id
from ballast.mall.payments.callbacks import send_refund
from ballast.mall.rules.refunding import OPEN, RefundState
from ballast.mall.rules.refused import Refused
from tests.fix_mall import OpenShop
from tests.integration.mall.cards import balance, card_order, gift_card
from tests.integration.mall.ordering import NOW, stock_of
from tests.integration.mall.paying import Till, at_till, books_of
from tests.integration.mall.trading import paid_order

PIECES = 5
_S = RefundState


class Walk:
    """One order, and random deeds upon it; those that the rules refuse change nothing."""

    def __init__(self, till: Till, order_id: UUID, dice: random.Random, *, by_card: bool = False) -> None:
        self.till, self.order_id, self.dice, self.by_card = till, order_id, dice, by_card
        self.came_back = 0

    async def refunds(self, *states: RefundState) -> list[aftersales.Refund]:
        found = await self.till.act(lambda c: aftersales.list_of(c, order_id=self.order_id))
        return [one for one in found if one.status in states]

    async def send(self) -> None:
        count = self.dice.randrange(1, 4)
        await self.till.act(
            lambda c: fulfilment.ship(
                c,
                self.order_id,
                carrier="self",
                named="",
                tracking="",
                pieces={1: count},
                actor="a",
                now=NOW,
                shipment_id=new_id(),
            )
        )

    async def ask(self) -> None:
        asked = Asked(1, self.dice.randrange(0, 4), self.dice.choice([None, None, self.dice.randrange(1, 3000)]))
        items = self.dice.choice([None, [asked], [asked], [asked]])
        with_return = self.dice.random() < 0.5
        await self.till.act(
            lambda c: aftersales.request(
                c, self.order_id, items, with_return=with_return, reason="x", actor="visitor:x", now=NOW
            )
        )

    async def decide(self) -> None:
        for refund in await self.refunds(_S.REQUESTED):
            amount = self.dice.choice([None, self.dice.randrange(1, 3000)])
            await self.till.act(
                lambda c, r=refund, n=amount: aftersales.approve(c, r.refund_id, actor="a", now=NOW, amount_fen=n)  # type: ignore[misc]
            )

    async def refuse(self) -> None:
        for refund in (await self.refunds(_S.REQUESTED, _S.RETURNED))[:1]:
            await self.till.act(lambda c, r=refund: aftersales.refuse(c, r.refund_id, actor="a", now=NOW, answer="no"))  # type: ignore[misc]

    async def take_goods(self) -> None:
        for refund in await self.refunds(_S.AWAITING_RETURN):
            before = stock_of(self.till.shop, self.till.shop.goods[0].sku_ids[0])[0]
            await self.till.act(
                lambda c, r=refund: aftersales.goods_back(c, r.refund_id, restock=True, actor="a", now=NOW)  # type: ignore[misc]
            )
            self.came_back += stock_of(self.till.shop, self.till.shop.goods[0].sku_ids[0])[0] - before

    async def pay(self) -> None:
        for refund in await self.refunds(_S.RETURNED, _S.FAILED):
            amount = self.dice.choice([None, self.dice.randrange(1, 3000)])
            await self.till.act(
                lambda c, r=refund, n=amount: aftersales.pay_back(c, r.refund_id, actor="a", now=NOW, amount_fen=n)  # type: ignore[misc]
            )

    async def hear(self) -> None:
        for refund in await self.refunds(_S.PROCESSING):
            if self.by_card:
                for sent in (True, False):  # paid once
                    assert await send_refund(self.till.db, self.till.shop.shop_id, refund.refund_id, {}, NOW) == sent
                continue
            kind = self.dice.choice(["refund.succeeded", "refund.succeeded", "refund.failed"])
            await self.till.told(kind, refund.refund_id, refund.amount_fen)

    async def step(self) -> None:
        deeds = [self.send, self.ask, self.ask, self.decide, self.refuse, self.take_goods, self.pay, self.hear]
        with contextlib.suppress(Refused):
            await self.dice.choice(deeds)()

    async def finish(self) -> None:
        """Nothing is open any more."""
        while await self.refunds(*OPEN):
            for deed in (self.decide, self.take_goods, self.pay, self.hear):
                with contextlib.suppress(Refused):
                    await deed()


@pytest.mark.parametrize(("by_card", "seed"), [*((False, n) for n in range(6)), *((True, n) for n in range(6))])
def test_money_and_pieces_add_up_after_any_walk(open_shop: OpenShop, seed: int, by_card: bool) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop, 20_000)
    order_id = card_order(shop, card.code, PIECES) if by_card else paid_order(shop, PIECES)

    async def story(till: Till) -> tuple[orders.Order, list[aftersales.Refund], int]:
        walk = Walk(till, order_id, random.Random(seed), by_card=by_card)
        for _ in range(30):
            await walk.step()
        await walk.finish()
        order = await till.act(lambda c: orders.get(c, order_id))
        return order, await walk.refunds(_S.SUCCEEDED), walk.came_back

    order, succeeded, came_back = at_till(shop, story)
    line = order.lines[0]
    assert order.refunded_fen == sum(one.amount_fen for one in succeeded) == line.refunded_fen <= order.paid_fen
    held = order.paid_fen - order.refunded_fen
    books = books_of(shop)
    assert (books.get("gift_cards" if by_card else "provider", 0), books.get("undue", 0)) == (held, 0)
    assert balance(shop, card.card_id) == (20_000 - held if by_card else 20_000)
    assert line.shipped_quantity + line.dropped_quantity + line.to_send == PIECES
    assert came_back <= line.shipped_quantity
    on_hand, reserved = stock_of(shop, shop.goods[0].sku_ids[0])
    # Every piece is in the house and free, in the house and to be sent, or with the buyer.
    assert (on_hand + line.to_send + line.shipped_quantity - came_back, reserved) == (100, 0)
