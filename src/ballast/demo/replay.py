"""One replay from beginning to end: set up, shoppers, the loss, the way back, the proof."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import psycopg

from ballast.demo import engineer, killer, proof, undoing
from ballast.demo.browser import connections
from ballast.demo.command import command
from ballast.demo.crowd import Crowd
from ballast.demo.killer import Killed
from ballast.demo.ledger import Edited, Ledger, Ordered
from ballast.demo.merchants import Merchants
from ballast.demo.outcome import Drilled, Outcome, is_taken_after
from ballast.demo.proof import Standing
from ballast.demo.screen import Screen, State
from ballast.demo.stage import PASSWORD, Stage, StageError
from ballast.demo.undoing import Undone
from ballast.demo.wanted import APART_S, Wanted
from ballast.demo.watching import Log, Watch

WARMS_UP_S = 8.0
"""Until as many shoppers are inside as come and go."""
_UP_S, _SEED_S = 300.0, 600.0
_NOTICED_S = 20.0
"""Who has not noticed the loss by then does not."""
_CALM_S = 2.0
"""After the last kill, until what follows from it has begun."""
_LEAVE_S, _NEWS_S, _DRILL_S = 20.0, 150.0, 300.0
"""The provider tries again after one second, two, four and so on: two minutes after a loss that lasted one."""
_SHOPS = "SELECT slug, shop_id FROM mall.directory"


def run(wanted: Wanted, screen: Screen) -> Outcome:
    """All of it; nothing of it runs afterwards. KeyboardInterrupt where somebody ended it (Ctrl-C, SIGTERM); StageError."""
    with Stage(wanted.port, keep=wanted.keep) as stage:
        replay = Replay(wanted, stage, screen)
        try:
            return asyncio.run(_until_signalled(replay.play))
        finally:
            screen.close()
            if wanted.keep:
                screen.tell(f"kept: {stage.home}")


async def _until_signalled(play: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """A signal ends it as a Ctrl-C does: what was started is stopped."""
    task = asyncio.ensure_future(play())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


class Replay:
    """One run on a stage."""

    def __init__(self, wanted: Wanted, stage: Stage, screen: Screen) -> None:
        self._wanted, self._stage, self._screen = wanted, stage, screen
        self._log = Log(lambda moment: screen.moment(moment, self._log))
        self._watch = Watch(stage.board, stage.note, self._log)
        self._started_at = time.time()
        self._deleted_rows = self._hit = self._changed_rows = 0
        self._undone: Undone | None = None
        self._stood: Standing = {}
        self._killed: list[Killed] = []
        self._calm_at = float("inf")

    async def play(self) -> Outcome:
        """What happened."""
        self._screen.tell(f"the platform starts in {self._stage.folder}")
        self._stage.start()  # by this thread: the kernel ends it with the one that started it
        async with self._beside(self._watch.run()):
            await self._wait(self._stage.is_up, _UP_S, "the platform to be up", lambda: "")
            ids = await self._fill()
            with Ledger(self._stage.home / "promises.jsonl") as ledger:
                return await self._live(ids, ledger)

    async def _fill(self) -> dict[str, str]:
        wanted, stage = self._wanted, self._stage
        self._screen.tell(f"{wanted.shops} shops are made")
        stage.seed(wanted.shops, wanted.seed)
        await self._wait(stage.is_seeded, _SEED_S, "the shops to be made", lambda: f"{stage.count_shops()} shops")
        with psycopg.connect(stage.dsn) as connection:
            ids = {slug: str(shop_id) for slug, shop_id in connection.execute(_SHOPS).fetchall()}
        self._screen.tell(f"shops to look at: {stage.base}/s/{stage.slugs()[0]}/ and {len(ids) - 1} others")
        return ids

    async def _live(self, ids: dict[str, str], ledger: Ledger) -> Outcome:
        wanted = self._wanted
        async with connections() as session:
            crowd = Crowd(
                self._stage.base, list(ids), ledger, seed=wanted.seed, orders_per_s=wanted.orders_per_s,
                views_per_s=wanted.views_per_s, password=PASSWORD, session=session,
            )  # fmt: skip
            merchants = Merchants(crowd, list(ids), ledger, seed=wanted.seed, password=PASSWORD)
            async with self._beside(self._show(crowd, ledger)):
                async with self._beside(merchants.run()):
                    async with self._beside(crowd.run()):
                        self._screen.tell("shoppers come")
                        await asyncio.sleep(WARMS_UP_S + wanted.before_s - killer.EARLY_S)
                        self._stood = await asyncio.to_thread(proof.standing, self._stage.dsn)
                        begins = time.time() + killer.EARLY_S
                        async with self._beside(self._kill(begins)):
                            await asyncio.sleep(begins - time.time())
                            before = (begins - wanted.before_s, begins)
                            await self._lose(ledger)
                        await asyncio.sleep(wanted.after_s)
                        until = time.time()
                self._screen.tell("the last shoppers leave")
                await crowd.leave(_LEAVE_S)
                await crowd.sweep(list(ids))
            if crowd.faults:
                raise crowd.faults[0]
            return await self._prove(ids, ledger, crowd, merchants, before, until)

    async def _lose(self, ledger: Ledger) -> None:
        """The engineer's work, and until all shops are home again, or patience is at its end."""
        wanted, stage, log = self._wanted, self._stage, self._log
        if wanted.how == "changes":
            await self._change(list(self._stood))
            return
        if wanted.how in ("rows", "both"):
            self._screen.tell("the engineer deletes every row", bad=True)
            self._deleted_rows, lost_at = await asyncio.to_thread(engineer.delete_rows, stage.dsn)
            log.note("lost", lost_at)
        if wanted.how == "both":
            await asyncio.sleep(APART_S)
        if wanted.how in ("files", "both"):
            self._screen.tell("the engineer kills the server and removes its data", bad=True)
            killed_at = await asyncio.to_thread(engineer.remove_server, stage.server)
            log.note("lost", killed_at)
            log.note("struck", killed_at)
        await self._until_home(ledger, log.at["lost"])

    async def _change(self, shops: list[str]) -> None:
        """The engineer's work of the other kind, and somebody who undoes it."""
        stage, log = self._stage, self._log
        rng = Random(f"changes {self._wanted.seed}")  # noqa: S311 - the same run is to be had again
        hit = rng.sample(sorted(shops), max(1, len(shops) // 3))
        self._hit = len(hit)
        self._screen.tell(f"the engineer changes prices, addresses, stock and points of {len(hit)} shops", bad=True)
        since = time.time()
        self._changed_rows, at = await asyncio.to_thread(engineer.change_rows, stage.dsn, hit)
        log.note("changed", at)
        await asyncio.sleep(undoing.UNSEEN_S)
        self._undone = await undoing.undo(stage.config, str(stage.folder / "vault"), since, log.note)
        if self._undone.problem:
            self._screen.tell(f"it is not undone: {self._undone.problem}", bad=True)

    async def _until_home(self, ledger: Ledger, lost_at: float) -> None:
        while time.time() < lost_at + self._wanted.patience_s:
            if "first_order" not in self._log.at:
                orders = [one for one in ledger.promises if isinstance(one, Ordered)]
                found = [one.at for one in orders if is_taken_after(one, lost_at, self._log.at.get("afloat"))]
                if found:
                    self._log.note("first_order", min(found))
            if "all_home" in self._log.at and self._log.mode == "home" and self._is_calm():
                return
            if "noticed" not in self._log.at and not self._wanted.kill and time.time() > lost_at + _NOTICED_S:
                self._screen.tell("nobody has noticed the loss", bad=True)
                return
            await asyncio.sleep(0.1)
        self._screen.tell(f"not all shops are home after {self._wanted.patience_s:.0f} s", bad=True)

    async def _kill(self, begins_at: float) -> None:
        wanted = self._wanted
        plan = killer.planned(wanted.seed, wanted.kill, wanted.kills)
        await killer.run(self._stage, plan, wanted.seed, begins_at, self._is_killed)
        self._calm_at = time.time() + _CALM_S

    def _is_calm(self) -> bool:
        """Nobody is killed any more, and whoever was is there again."""
        if not self._wanted.kill:
            return True
        note = self._watch.note
        return time.time() > self._calm_at and note is not None and note.all_up

    def _is_killed(self, killed: Killed) -> None:
        self._killed.append(killed)
        self._screen.tell(f"SIGKILL to {killed.victim} (process {killed.pid})", bad=True)

    async def _prove(
        self, ids: dict[str, str], ledger: Ledger, crowd: Crowd, merchants: Merchants, before: tuple[float, float],
        until: float,
    ) -> Outcome:  # fmt: skip
        sandbox = self._stage.folder / "sandbox.sqlite"
        self._screen.tell("every promise is looked for in the database")
        with contextlib.suppress(StageError):
            await self._wait(lambda: not proof.undelivered(sandbox), _NEWS_S, "news of payments", lambda: "")
        end, problem = None, ""
        try:
            skus = [one.sku_id for one in ledger.promises if isinstance(one, Edited)]
            slugs = {shop_id: slug for slug, shop_id in ids.items()}
            end = await asyncio.to_thread(proof.look, self._stage.dsn, sandbox, slugs, skus)
        except psycopg.Error as error:
            problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        self._screen.tell("every shop is held beside the record")
        drilled = await self._drill() if end is not None else Drilled(False, why=problem)
        return Outcome(
            wanted=self._wanted,
            started_at=self._started_at,
            took_s=time.time() - self._started_at,
            log=self._log,
            visits=tuple(crowd.visits),
            promises=tuple(ledger.promises),
            ids=ids,
            before=before,
            until=until,
            gave_up=dict(crowd.gave_up),
            saved=merchants.saved,
            refused=merchants.refused,
            deleted_rows=self._deleted_rows,
            killed=tuple(self._killed),
            not_up=tuple(self._watch.not_up),
            stood=self._stood,
            end=end,
            end_problem=problem,
            drilled=drilled,
            hit=self._hit,
            changed_rows=self._changed_rows,
            undone=self._undone,
        )

    async def _drill(self) -> Drilled:
        _, told, problem = await command("drill", "--all", config=self._stage.config, seconds=_DRILL_S)
        try:
            found, differences = told["drilled"], told["differences"]
        except (TypeError, KeyError):
            return Drilled(False, why=problem or str(told)[-300:])
        why = "; ".join(str(one.get("what", one)) for one in differences[:3])
        return Drilled(bool(told["equal"]), found["tenants"], found["rows"], found["tables"], found["differences"], why)

    async def _show(self, crowd: Crowd, ledger: Ledger) -> None:
        """Tells the screen how it is, until it is cancelled."""
        while True:
            self._screen.show(
                State(
                    at=time.time(), pulse=crowd.pulse, shut=len(crowd.shut), inside=crowd.inside,
                    orders=ledger.orders, note=self._watch.note, course=self._watch.course, log=self._log,
                    shops=self._wanted.shops, base=self._stage.base,
                )
            )  # fmt: skip
            await asyncio.sleep(self._screen.every_s)

    async def _wait(
        self, condition: Callable[[], bool], timeout_s: float, what: str, progress: Callable[[], str]
    ) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise StageError(f"waited {timeout_s:.0f} s for {what}.", f"Look into {self._stage.folder}/logs.")
            if said := progress():
                self._screen.progress(said)
            await asyncio.sleep(0.25)

    @contextlib.asynccontextmanager
    async def _beside(self, work: Awaitable[None]) -> AsyncIterator[None]:
        """While the block lasts; a fault of it comes out of the block."""
        task = asyncio.ensure_future(work)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
