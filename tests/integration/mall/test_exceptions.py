"""What cannot be kept when it comes home: nothing is lost, and the shop decides."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ballast.continuity import Intake, Offered
from ballast.continuity.homecoming import HomeComing
from ballast.mall import aftersales, checkout, exceptions, orders, payments, remedies
from ballast.mall.checkout import Wanted
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Cancelled
from ballast.mall.deeds import Deed
from ballast.mall.exceptions import Kept
from ballast.mall.homecoming import take_in
from ballast.mall.ids import new_id
from ballast.mall.order_life import Unknown
from ballast.mall.owner import Owner
from ballast.mall.payments.callbacks import UnknownReference
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status
from ballast.recovery import Later, try_again
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.journals import afloat, come_home, items, kept_apart, listening, twin
from tests.integration.mall.ordering import HOME, NOW, buy, guest, in_shop, stock_of
from tests.integration.mall.paying import Till, at_till, books_of

LATER = NOW + timedelta(minutes=10)
BY = "account:lin"


class Accepted:
    """An order that was accepted elsewhere, paid there or not; `shop` is the same shop at home."""

    def __init__(self, shop: Shop, home: MallDatabase, *, paid: bool, quantity: int = 2, then: object = None) -> None:
        self.owner = guest()
        self.kind = listening()
        sku = shop.goods[0].sku_ids[0]
        self.placed = afloat(self.kind, shop, lambda c: buy(c, self.owner, sku, quantity))
        self.payment: UUID | None = None
        self.home = Shop(home, shop.shop_id, shop.slug, shop.goods)
        self.afloat = shop
        at_till(shop, lambda till: self._pay(till, paid))

    async def _pay(self, till: Till, paid: bool) -> None:
        await till.db.close()
        till.db = self.kind(till.settings)
        await till.db.open()
        self.payment = await till.begin(self.placed.order_id)
        if paid:
            assert await till.told("payment.succeeded", self.payment, self.placed.total_fen) == "paid"

    def comes_home(self) -> Kept:
        """… and cannot be kept: the exception."""
        report = come_home(self.home.database, self.kind.all_deeds())
        assert report.refused == ()
        (kept,) = in_shop(self.home, lambda c: exceptions.of_shopper(c, self.owner, self.placed.order_id))
        return kept

    def order(self) -> orders.Order:
        """At home."""
        return in_shop(self.home, lambda c: orders.get(c, self.placed.order_id, owner=self.owner))


def sold_out(shop: Shop, database: MallDatabase) -> None:
    """Somebody else has bought all but one piece."""
    database.run("UPDATE mall.stock SET on_hand = 1 WHERE sku_id = %s", shop.goods[0].sku_ids[0])


def test_a_paid_order_whose_goods_are_gone_waits_with_its_payment_and_is_kept_once_the_shop_has_them(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=True)
        sold_out(shop, home)
        kept = accepted.comes_home()
        assert (kept.kind, kept.reason, kept.is_paid) == ("checkout", "stock.short", True)
        assert [one.kind for one in kept.deeds] == ["checkout", "payment_begun", "payment_opened", "callback"]
        assert kept.order is not None
        assert kept.order.number == accepted.placed.number
        with pytest.raises(Unknown):
            accepted.order()
        # So that all of it is tried again, should home go back to before this.
        assert home.run("SELECT count(*) FROM ballast_merge.applied WHERE kept IS NOT NULL") == [(4,)]
        # It comes home once more, and the same form is sent again: still one, and no second order.
        home.run("DROP SCHEMA ballast_merge CASCADE")
        assert accepted.comes_home().deeds == kept.deeds
        with pytest.raises(Unknown):
            in_shop(accepted.home, lambda c: buy(c, accepted.owner, sku, 2))

        now = in_shop(accepted.home, lambda c: remedies.lines_now(c, kept))
        assert [line.missing for line in now] == [1]
        in_shop(accepted.home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=LATER))
        order = accepted.order()
        assert (order.number, order.total_fen, order.placed_at) == (accepted.placed.number, 2000, NOW)
        assert (order.status, order.paid_fen) == (Status.PAID, 2000)
        assert stock_of(accepted.home, sku) == (0, 0)  # one was there, one was received, two are sold
        assert in_shop(accepted.home, lambda c: exceptions.of_shopper(c, accepted.owner)) == ()
        again = in_shop(accepted.home, lambda c: buy(c, accepted.owner, sku, 2))
        assert (again.order_id, again.repeated) == (accepted.placed.order_id, True)
        with pytest.raises(Refused, match="already"):
            in_shop(accepted.home, lambda c: remedies.refund(c, kept.exception_id, actor=BY, now=LATER))


def test_what_lacked_only_what_has_come_back_is_done_when_it_is_tried_again_but_not_what_people_decided(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    """Home was being emptied when it was merged there."""
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    with twin(mall_database) as home:
        accepted, given_up = (Accepted(shop, home, paid=True) for _ in range(2))
        sold_out(shop, home)
        deeds = items(accepted.kind.all_deeds()), items(given_up.kind.all_deeds())
        kept = accepted.comes_home()
        assert try_again(home.dsn, deeds[0], take_in).open == 4
        assert accepted.comes_home() == kept
        decided = given_up.comes_home()
        in_shop(given_up.home, lambda c: remedies.refund(c, decided.exception_id, actor=BY, now=LATER))

        home.run("UPDATE mall.stock SET on_hand = 100 WHERE sku_id = %s", sku)
        for applied in (4, 0):
            for those in deeds:
                again = try_again(home.dsn, those, take_in)
                assert (again.applied, again.open, again.refused) == (applied, 0, ())
        order = accepted.order()
        assert (order.status, order.paid_fen, order.number) == (Status.PAID, 2000, accepted.placed.number)
        assert given_up.order().status == Status.CANCELLED
        assert in_shop(accepted.home, lambda c: exceptions.of_shopper(c, accepted.owner)) == ()
        settled = in_shop(accepted.home, lambda c: exceptions.one(c, kept.exception_id))
        assert (settled.remedy, settled.settled_by) == ("accept", "system")
        assert stock_of(accepted.home, sku) == (98, 0)


def test_who_gave_his_order_up_meanwhile_does_not_get_it_when_it_is_tried_again(
    mall_database: MallDatabase, open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=True)
        sold_out(shop, home)
        kept = accepted.comes_home()
        home.run("UPDATE mall.stock SET on_hand = 100 WHERE sku_id = %s", shop.goods[0].sku_ids[0])
        tenant, order_id = str(shop.shop_id), accepted.placed.order_id
        later = Later(refused={tenant: tuple(items(accepted.kind.all_deeds()))})
        # Nobody is named who could do it: it stays as it is, and the shop comes home all the same.
        assert HomeComing(Intake(tmp_path / "empty"), None, home.dsn, later).bring((tenant,)).home == (tenant,)
        assert accepted.comes_home() == kept
        intake, deed = Intake(tmp_path / "intake"), Cancelled(order_id, "shopper", "shopper", "", NOW)
        intake.take([Offered(tenant, f"cancelled:{order_id}", "cancelled", deed, NOW)])
        came = HomeComing(intake, take_in, home.dsn, later).bring((tenant,))
        assert (came.home, came.trouble) == ((tenant,), "")
        assert accepted.order().status == Status.CANCELLED
        assert home.run("SELECT amount_fen FROM mall.refund WHERE order_id = %s", order_id) == [(2000,)]


def test_an_order_that_is_given_up_is_cancelled_and_its_money_goes_back(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=True)
        sold_out(shop, home)
        kept = accepted.comes_home()
        back = in_shop(
            accepted.home, lambda c: remedies.refund(c, kept.exception_id, actor=BY, now=LATER, answer="Sold out")
        )
        assert back == 2000
        order = accepted.order()
        assert (order.status, order.cancel_reason, order.number) == (
            Status.CANCELLED,
            "exception",
            accepted.placed.number,
        )
        assert [line.sku_id for line in order.lines] == [sku]
        assert stock_of(accepted.home, sku) == (1, 0)
        (refund,) = in_shop(accepted.home, lambda c: aftersales.list_of(c, order_id=order.order_id))
        assert (refund.status, refund.amount_fen, refund.undue) == (RefundState.PROCESSING, 2000, True)

        async def paid_back(till: Till) -> str:
            return await till.told("refund.succeeded", refund.refund_id, 2000)

        assert at_till(accepted.home, paid_back) == "refunded"
        assert books_of(accepted.home) == {}


def test_a_payment_that_comes_home_later_waits_with_its_order(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=False)
        sold_out(shop, home)
        kept = accepted.comes_home()
        assert not kept.is_paid
        payment = accepted.payment
        assert payment is not None

        async def told(till: Till) -> list[str]:
            said = [await till.told("payment.succeeded", payment, 2000, callback_id="once") for _ in range(2)]
            with pytest.raises(UnknownReference):
                await till.told("payment.succeeded", new_id(), 2000)
            return said

        assert at_till(accepted.home, told) == ["kept", "kept"]
        (kept,) = in_shop(accepted.home, lambda c: exceptions.of_shopper(c, accepted.owner))
        assert (kept.paid_fen, len(kept.deeds)) == (2000, 4)
        in_shop(accepted.home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=LATER))
        assert accepted.order().status == Status.PAID


def test_an_order_that_is_kept_unpaid_can_still_be_paid(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=False)
        sold_out(shop, home)
        kept = accepted.comes_home()
        late = NOW + timedelta(days=1)
        in_shop(accepted.home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=late))
        order = accepted.order()
        assert (order.status, order.pay_by > late) == (Status.PENDING_PAYMENT, True)
        payment = accepted.payment
        assert payment is not None
        assert at_till(accepted.home, lambda till: till.told("payment.succeeded", payment, 2000)) == "paid"


def test_other_goods_are_sent_and_what_they_cost_less_goes_back(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    cheaper = shop.add_product("杯 Cup", price_fen=900).sku_ids[0]
    dearer = shop.add_product("壶 Pot", price_fen=1001).sku_ids[0]
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=True)
        # The product is gone altogether: it came later than the moment to which the shop went back.
        sku = shop.goods[0].sku_ids[0]
        for table in ("stock_movement", "stock", "sku"):
            home.run(f"DELETE FROM mall.{table} WHERE sku_id = %s", sku)
        kept = accepted.comes_home()
        assert kept.reason == "checkout.not_on_sale"
        (line,) = in_shop(accepted.home, lambda c: remedies.lines_now(c, kept))
        assert line.now is None
        assert [one.sku_id for one in line.others] == [cheaper]

        def instead(sku_id: UUID) -> tuple[checkout.Quote, int]:
            order, back = in_shop(
                accepted.home, lambda c: remedies.substitute(c, kept.exception_id, {1: sku_id}, actor=BY, now=LATER)
            )
            return order.quote, back

        with pytest.raises(Refused, match="cost more"):
            instead(dearer)
        with pytest.raises(Refused, match="does not have some"):
            in_shop(accepted.home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=LATER))
        assert instead(cheaper)[1] == 200
        order = accepted.order()
        assert (order.status, order.total_fen, [one.sku_id for one in order.lines]) == (Status.PAID, 2000, [cheaper])
        assert stock_of(accepted.home, cheaper) == (98, 0)
        (refund,) = in_shop(accepted.home, lambda c: aftersales.list_of(c, order_id=order.order_id))
        assert (refund.status, refund.amount_fen, refund.undue) == (RefundState.PROCESSING, 200, False)


def test_the_price_that_was_accepted_holds_also_where_it_is_another_now(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=True)
        home.run("UPDATE mall.sku SET price_fen = 1500 WHERE sku_id = %s", shop.goods[0].sku_ids[0])
        kept = accepted.comes_home()
        assert (kept.reason, kept.params["total_fen"], kept.params["shown_fen"]) == (
            "checkout.price_changed",
            3000,
            2000,
        )
        in_shop(accepted.home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=LATER))
        order = accepted.order()
        assert (order.status, order.total_fen, order.lines[0].price_fen) == (Status.PAID, 2000, 1000)


def test_who_cancels_an_order_that_cannot_be_kept_gets_his_money_back_without_asking(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=False)
        owner, order_id = accepted.owner, accepted.placed.order_id

        async def cancel(connection: Connection) -> None:
            await orders.cancel(connection, order_id, by="shopper", actor=owner.actor, now=LATER, owner=owner)

        afloat(accepted.kind, shop, cancel)
        sold_out(shop, home)
        assert come_home(home, accepted.kind.all_deeds()).refused == ()
        assert in_shop(accepted.home, lambda c: exceptions.of_shopper(c, owner)) == ()
        assert accepted.order().status == Status.CANCELLED
        payment = accepted.payment
        assert payment is not None
        assert at_till(accepted.home, lambda till: till.told("payment.succeeded", payment, 2000)) == "sent_back"


def test_who_gives_up_elsewhere_what_waits_has_given_it_up_at_home(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop, owner, kind = open_shop(products=1), guest(), listening()
    order_id = in_shop(shop, lambda c: kept_apart(c, owner, shop.goods[0].sku_ids))
    with twin(mall_database) as home:
        assert afloat(kind, shop, lambda c: remedies.give_up(c, owner, order_id, now=LATER))
        assert come_home(home, kind.all_deeds()).refused == ()
        at_home = Shop(home, shop.shop_id, shop.slug)
        order = in_shop(at_home, lambda c: orders.get(c, order_id, owner=owner))
        assert order.status == Status.CANCELLED
        there, here = (in_shop(one, lambda c: aftersales.list_of(c, order_id=order_id)) for one in (shop, at_home))
        assert [(one.refund_id, one.amount_fen) for one in here] == [(one.refund_id, one.amount_fen) for one in there]
        assert len(here) == 1


def test_of_several_who_decide_at_once_one_does_and_a_callback_in_between_is_not_lost(open_shop: OpenShop) -> None:
    shop, owner = open_shop(products=1), guest()
    sku = shop.goods[0].sku_ids[0]
    order_id = in_shop(shop, lambda c: kept_apart(c, owner, [sku], paid=False))
    ((exception_id, payment),) = shop.database.run(
        "SELECT e.exception_id, (d.payload->>'payment_id')::uuid FROM mall.exception e JOIN mall.exception_deed d USING (shop_id, exception_id)"
        " WHERE e.order_id = %s AND d.kind = 'payment_begun'",
        order_id,
    )

    async def story(till: Till) -> list[object]:
        async def told() -> str:
            try:
                return await till.told("payment.succeeded", payment, 2000, callback_id="once")
            except UnknownReference:  # asked before the decision, answered after it: the provider says it again
                return await till.told("payment.succeeded", payment, 2000, callback_id="once")

        return await asyncio.gather(
            till.act(lambda c: remedies.accept(c, exception_id, actor=BY, now=LATER)),
            told(),
            till.act(lambda c: remedies.refund(c, exception_id, actor=BY, now=LATER)),
            till.act(lambda c: remedies.give_up(c, owner, order_id, now=LATER)),
            return_exceptions=True,
        )

    decided = at_till(shop, story)
    assert [one for one in decided if isinstance(one, BaseException) and not isinstance(one, Refused)] == []
    assert shop.database.run("SELECT count(*) FROM mall.orders WHERE order_id = %s", order_id) == [(1,)]
    order = in_shop(shop, lambda c: orders.get(c, order_id, owner=owner))
    refunds = in_shop(shop, lambda c: aftersales.list_of(c, order_id=order_id))
    # Paid and kept, or cancelled and on its way back; the money is in the books once.
    assert (order.status, sum(one.amount_fen for one in refunds)) in ((Status.PAID, 0), (Status.CANCELLED, 2000))
    assert books_of(shop)["provider"] == 2000
    assert in_shop(shop, exceptions.counts) == {"open": 0, "settled": 1}


def test_money_for_an_order_that_nobody_knows_any_more_can_be_paid_back(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        # The order was placed before the loss and is not in what was restored; it is paid meanwhile.
        sku, owner = shop.goods[0].sku_ids[0], guest()
        placed = in_shop(shop, lambda c: buy(c, owner, sku, 2))
        kind = listening()

        async def pay(till: Till) -> None:
            await till.db.close()
            till.db = kind(till.settings)
            await till.db.open()
            payment = await till.begin(placed.order_id)
            assert await till.told("payment.succeeded", payment, 2000) == "paid"

        at_till(shop, pay)
        assert come_home(home, kind.all_deeds()).refused == ()
        at_home = Shop(home, shop.shop_id, shop.slug)
        (kept,) = in_shop(at_home, lambda c: exceptions.page(c, settled=False))
        assert (kept.kind, kept.reason, kept.is_order, kept.paid_fen) == ("payment_begun", "order.unknown", True, 2000)
        with pytest.raises(Refused, match="no order"):
            in_shop(at_home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=LATER))
        with pytest.raises(Refused, match="waits"):
            in_shop(at_home, lambda c: remedies.note(c, kept.exception_id, actor=BY, now=LATER, answer="x"))
        assert in_shop(at_home, lambda c: remedies.refund(c, kept.exception_id, actor=BY, now=LATER)) == 2000
        (paid,) = in_shop(at_home, lambda c: payments.of_order(c, placed.order_id))
        assert (paid.status, paid.undue, paid.amount_fen) == ("succeeded", True, 2000)


def test_what_is_no_order_is_settled_by_saying_what_was_done(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        sku, owner = shop.goods[0].sku_ids[0], guest()
        placed = in_shop(shop, lambda c: buy(c, owner, sku, 2))
        kind = listening()

        async def cancel(connection: Connection) -> None:
            await orders.cancel(connection, placed.order_id, by="shopper", actor=owner.actor, now=LATER, owner=owner)

        afloat(kind, shop, cancel)
        assert come_home(home, kind.all_deeds()).refused == ()
        at_home = Shop(home, shop.shop_id, shop.slug)
        (kept,) = in_shop(at_home, lambda c: exceptions.page(c, settled=False))
        assert (kept.kind, kept.is_order) == ("cancelled", False)
        with pytest.raises(Refused, match="Nothing is written"):
            in_shop(at_home, lambda c: remedies.note(c, kept.exception_id, actor=BY, now=LATER, answer=" "))
        in_shop(at_home, lambda c: remedies.note(c, kept.exception_id, actor=BY, now=LATER, answer="Told him"))
        assert in_shop(at_home, exceptions.counts) == {"open": 0, "settled": 1}


@pytest.mark.parametrize("by", ["the shop", "the way home"])
def test_a_guest_who_becomes_a_member_keeps_his_order_that_waits(
    mall_database: MallDatabase, open_shop: OpenShop, by: str
) -> None:
    shop = open_shop(products=1)
    with twin(mall_database) as home:
        accepted = Accepted(shop, home, paid=True)
        sold_out(shop, home)
        kept = accepted.comes_home()
        member = new_id()
        home.run(
            "INSERT INTO mall.customer (shop_id, customer_id, phone, name) VALUES (%s, %s, '13911112222', 'Lin')",
            shop.shop_id,
            member,
        )
        guest_id = accepted.owner.visitor_id
        assert guest_id is not None
        in_shop(accepted.home, lambda c: exceptions.adopt(c, guest_id, member))
        if by == "the shop":
            in_shop(accepted.home, lambda c: remedies.accept(c, kept.exception_id, actor=BY, now=LATER))
        else:
            home.run("UPDATE mall.stock SET on_hand = 100 WHERE sku_id = %s", shop.goods[0].sku_ids[0])
            assert try_again(home.dsn, items(accepted.kind.all_deeds()), take_in).applied == 4
        order = in_shop(
            accepted.home, lambda c: orders.get(c, accepted.placed.order_id, owner=Owner(customer_id=member))
        )
        assert (order.customer_id, order.status) == (member, Status.PAID)


def test_a_deed_of_a_kind_that_nobody_knows_is_kept_by_the_merge(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop()
    (refusal,) = come_home(mall_database, [(shop.shop_id, Deed("levitated", "levitated:1", {}))]).refused
    assert "no kind of deed" in refusal.reason


def test_a_quote_of_two_lines_of_one_sku_counts_both(open_shop: OpenShop) -> None:
    """Other goods may be in the order already: both lines are reserved."""
    shop = open_shop(products=2)
    first, second = (goods.sku_ids[0] for goods in shop.goods)
    owner = guest()
    kind = listening()
    afloat(
        kind,
        shop,
        lambda c: checkout.place(
            c, owner, [Wanted(first, 1), Wanted(second, 2)], key="k", address=HOME, shown_fen=None, now=NOW
        ),
    )
    ((_, deed),) = kind.all_deeds()
    lines = deed.payload.quote.lines
    quote = msgspec.structs.replace(
        deed.payload.quote, lines=(lines[0], msgspec.structs.replace(lines[1], sku_id=first))
    )
    assert msgspec.structs.replace(deed.payload, quote=quote).pieces == {first: 3}
