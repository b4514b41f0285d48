"""Any order of writes, changes of structure, losses, recoveries, rewinds: after each step every tenant is what a model says.

The server is lost by SIGKILL with its folder; recoveries are killed after some tenants, go on, or the server is lost again
in the middle of one. What is not back must refuse to be read; what is, is written to, rewound and undone meanwhile. At the
end every moment of the whole story is read from the vault once more.

`BALLAST_HISTORIES=50 pytest tests/faults/test_recovery_machine.py` tries more stories, half of them on each PostgreSQL;
`BALLAST_SEED=7` others. A story that fails is printed step by step, and is told again by the same command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ballast.errors import BallastError, ProtectionError
from ballast.postgres import parse_lsn
from ballast.recovery import Request, ensure, recover, recovery_begun, restore
from ballast.recovery.rewind import Rewinding, rewind
from ballast.recovery.rewound import Rewound
from ballast.recovery.transaction import find_transaction
from ballast.recovery.undo import Undoing, undo
from ballast.vault.config import Tenants
from ballast.vault.moment import show
from ballast.vault.records import Cut
from tests.deep import mostly_deep
from tests.fix_descent import protect_on
from tests.fix_postgres import Connection, Database, NewServer
from tests.fix_protected import Protected, vault_rows
from tests.shopping import KINDS, Shopper
from tests.shops import TABLES, WITHOUT_TENANTS, Lines, Shops, in_order

STORIES = max(1, int(os.environ.get("BALLAST_HISTORIES", "2")) // 2)
"""On each PostgreSQL; on 16 with `--deep` alone."""
STEPS = int(os.environ.get("BALLAST_STEPS", "12"))
SEED = int(os.environ.get("BALLAST_SEED", "0"))
MOST_LOSSES = 3
CALM_STEPS = 4
WORDS = Tenants(column="shop", shared=("public.word",))
MISSING = "SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NULL"
LAST_STEPS = ("recover.open", "recover.validated", "recover.finished")
TABLES_NOW = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"

number = st.integers(0, 30)
writes = st.lists(st.tuples(st.sampled_from(KINDS), number, number), min_size=1, max_size=4)


@dataclass(frozen=True)
class Moment:
    """A cut, and what everything was there."""

    cut: Cut
    model: Shops


@dataclass
class Transaction:
    """What it led from and to. `position` is found when somebody asks, or when its server is lost."""

    timeline: int
    xid: int
    before: Shops
    after: Shops
    position: str = ""


class Bench:
    """What a story needs of the fixtures."""

    def __init__(
        self,
        major: int,
        own_server: NewServer,
        new_protected: Callable[..., Protected],
        fresh_database: Callable[[int], AbstractContextManager[Database]],
    ) -> None:
        self.major, self.own_server, self.new_protected = major, own_server, new_protected
        self.fresh_database = fresh_database


class Recovery(RuleBasedStateMachine):
    """One story."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.model = self.recorded = Shops.new()
        self.moments: list[Moment] = []
        self.transactions: list[Transaction] = []
        self.losses = self.recorder_deaths = self.steps = 0
        self.lost = self.recovering = self.recording = False
        self.shared_back = True
        self.sound = False
        self.begun = time.monotonic()

    # How it begins

    @initialize(told=number)
    def a_platform_is_protected(self, told: int) -> None:
        """Five shops. Hypothesis begins with a story of nothing but zeros, in which nearly nothing happens: not told."""
        assume(told)
        self._say(f"a story on PostgreSQL {self.bench.major}")
        self._new_server()
        self.db.run(*TABLES)
        self.protected = self.bench.new_protected(self.db, WORDS)
        self.conn = self._connect()
        for tenant in map(str, range(1, 6)):
            shopper = Shopper(self.conn, self.model, tenant, [tenant])
            for kind in ("word", "item", "item", "log", "word_of"):
                shopper.write(kind, int(tenant), int(tenant) + 1)
        self.protected.protect()
        self._record()
        self._remember()

    # Writes

    @precondition(lambda self: self.calm and not self.lost and self.shared_back)
    @rule(tenant=number, done=writes)
    def write(self, tenant: int, done: list[tuple[str, int, int]]) -> None:
        """One transaction of one tenant. While others come back: of one that is there, or a new one."""
        there = [t for t in {*self.model.tenants(), *map(str, range(1, 8))} if t not in self._missing()]
        there.sort(key=int)
        self._write(there[tenant % len(there)], there, done)

    @precondition(lambda self: self.calm and self.recording and not self.recovering)
    @rule(tenant=number, done=writes)
    def write_more(self, tenant: int, done: list[tuple[str, int, int]]) -> None:
        """The same, so that it is done more often."""
        self.write(tenant, done)

    @precondition(lambda self: self.calm and self.recording and not self.recovering)
    @rule(kind=st.sampled_from(("add", "add", "rename", "drop", "table", "index")), a=number, b=number)
    def change_structure(self, kind: str, a: int, b: int) -> None:
        """DDL, without waiting for anything."""
        self._say(f"structure: {kind} {a} {b}")
        table = sorted(self.model.columns)[a % len(self.model.columns)]
        if table == "log":
            table = "item"
        taken = {column.name for column in self.model.columns[table].values()}
        name = next(f"c{n}" for n in range(b % 3, 99) if f"c{n}" not in taken)
        added = self.model.added(table)
        if kind == "add":
            default = None if b % 3 == 0 else f"default {b}"
            clause = f" NOT NULL DEFAULT '{default}'" if default else ""
            self._run(f"ALTER TABLE {table} ADD COLUMN {name} text{clause}")
            self.model.add_column(table, name, default)
        elif kind == "rename":
            place = list(self.model.columns[table])[-1] if table != "line" else (added or [None])[-1]
            if place is not None:
                self._run(f'ALTER TABLE {table} RENAME COLUMN "{self.model.columns[table][place].name}" TO {name}')
                self.model.rename_column(table, place, name)
        elif kind == "drop" and added:
            self._run(f"ALTER TABLE {table} DROP COLUMN {self.model.columns[table][added[b % len(added)]].name}")
            self.model.drop_column(table, added[b % len(added)])
        elif kind == "table" and len(self.model.extra()) < 3:
            table = f"extra{len(self.model.extra())}"
            self._run(f"CREATE TABLE {table} (id serial PRIMARY KEY, shop int NOT NULL, v text)")
            self.model.add_table(table, ("id", "shop", "v"))
        elif kind == "index":
            self._run(f'CREATE INDEX ON {table} (md5("{self.model.name(table, -1)}"::text))')
        self._remember()

    # Back to a moment

    @precondition(lambda self: self.calm and self.recording)
    @rule(tenant=number, at=number)
    def rewind(self, tenant: int, at: int) -> None:
        """One tenant, to any moment that is remembered, also one before a loss."""
        moment = self.moments[-1 - at % len(self.moments)]
        everybody = sorted({*self.model.tenants(), *moment.model.tenants()}, key=int)
        chosen = everybody[tenant % len(everybody)]
        self._say(f"rewind {chosen} to {show(moment.cut)}")
        try:
            after: Shops | None = self.model.rewound(chosen, moment.model)
        except KeyError:
            after = None
        if chosen in self._missing() or (after is not None and after.problem()):
            after = None
        self._sealed()
        vault = self.protected.vault()
        resolved = vault.resolve(show(moment.cut))
        assert resolved.exact, resolved
        self._amended(after, lambda: rewind(vault, resolved, self.db.dsn, Rewinding(chosen)))

    @precondition(lambda self: self.calm and self.recording and self.transactions)
    @rule(which=number)
    def undo(self, which: int) -> None:
        """One transaction, also one of before a loss."""
        transaction = self.transactions[-1 - which % len(self.transactions)]
        self._sealed()
        self._find(transaction)
        self._say(f"undo {transaction.position}")
        after = self.model.undone(transaction.before, transaction.after)
        if after is not None and after.problem():
            after = None
        missing = self._missing()
        if any(transaction.before.lines(table, t) != transaction.after.lines(table, t)
               for t in missing for table in transaction.before.rows if table != WITHOUT_TENANTS):  # fmt: skip
            after = None
        self._amended(after, lambda: undo(self.protected.vault(), self.db.dsn, Undoing((transaction.position,))))

    @precondition(lambda self: self.calm)
    @rule(at=number, tenant=number, alone=st.booleans())
    def restore_elsewhere(self, at: int, tenant: int, alone: bool) -> None:
        """Everything, or one tenant, as of a moment, into an empty database."""
        moment = self.moments[-1 - at % len(self.moments)]
        tenants = moment.model.tenants()
        chosen = tenants[tenant % len(tenants)] if alone and tenants else None
        self._say(f"restore {chosen or 'all'} as of {show(moment.cut)} elsewhere")
        if self.recording:
            self._sealed()
        vault = self.protected.vault()
        with self.bench.fresh_database(self.bench.major) as scratch:
            request = Request(tenants=None if chosen is None else (chosen,))
            report = restore(vault, vault.resolve(show(moment.cut)), scratch.dsn, request)
            assert chosen is not None or report.proven, report
            with psycopg.connect(scratch.dsn, autocommit=True) as conn:
                for table in moment.model.rows:
                    if chosen is None or table != WITHOUT_TENANTS:
                        assert rows(conn, moment.model, table) == moment.model.lines(table, chosen), table

    # Losses

    @precondition(lambda self: not self.lost and self.losses < MOST_LOSSES)
    @rule(recorder_dies=st.booleans())
    def lose(self, recorder_dies: bool) -> None:
        """SIGKILL, and the folder is gone; also in the middle of a recovery. The recorder may be killed with it."""
        self._say(f"LOSS{' and the recorder is killed' if recorder_dies and self.recording else ''}")
        self.conn.close()
        self.db.server.discard()
        if self.recording:
            if recorder_dies:
                self.protected.kill()
                self.protected.start(armed=False)
                self.protected.until(lambda: self.protected.health.pid, "the recorder to be there again")
            self.protected.stop()
            self.recorded = self.model.copy()
            for transaction in self.transactions:
                self._find(transaction)
        self.model = self.recorded.copy()
        self.losses += 1
        self.steps = 0
        self.lost, self.recovering, self.recording = True, False, False

    @precondition(lambda self: self.calm and self.recording and not self.recorder_deaths)
    @rule()
    def the_recorder_dies(self) -> None:
        """SIGKILL."""
        self._say("the recorder is killed")
        self.recorder_deaths += 1
        self.protected.kill()
        self._record()

    @precondition(lambda self: self.lost or self.recovering)
    @rule()
    def recover(self) -> None:
        """All of it, from where an interrupted one stopped."""
        self._say("recover")
        self._target()
        vault = self.protected.vault()
        at = recovery_begun(vault, self.db.dsn)
        recovered = recover(vault, vault.resolve(at), self.db.dsn)
        assert recovered.proven, recovered
        self.lost, self.recovering, self.shared_back = False, False, True
        self.steps = 0
        if self.recording:
            self._remember()

    @precondition(lambda self: self.lost or self.recovering)
    @rule(after=st.integers(0, 5), last_step=st.sampled_from(LAST_STEPS))
    def recover_and_be_killed(self, after: int, last_step: str) -> None:
        """SIGKILL after some tenants, before any, or, where nobody is left, in one of the last steps."""
        begun = self.recovering
        self._target()
        missing = len(self._missing()) if begun else len(self.model.tenants())
        shared = not (begun and self.shared_back)
        fail, self.shared_back = f"recover.committed:{after + shared}", True
        if after >= missing:
            fail = last_step
        elif not after:
            fail = "recover.committed:1" if not shared else "recover.gate"
            self.shared_back = not shared
        self._say(f"recover, killed at {fail}")
        process = self._recovering(fail)
        said = b"".join(process.communicate(timeout=90)).decode()
        assert process.returncode == -signal.SIGKILL, said
        self.lost, self.recovering = False, fail != "recover.finished"
        self.steps = 0

    @precondition(lambda self: self.recovering and self.shared_back)
    @rule(tenant=number, done=writes)
    def recover_while_one_is_waited_for(self, tenant: int, done: list[tuple[str, int, int]]) -> None:
        """A caller's tenant comes first, and is written to while the others come back."""
        missing = sorted(self._missing())
        chosen = missing[tenant % len(missing)] if missing else self.model.tenants()[0]
        self._say(f"recover while {chosen} is waited for")
        process = self._recovering("")
        assert ensure(self.db.dsn, chosen)
        self._write(chosen, [chosen], done, while_it_recovers=True)
        said = b"".join(process.communicate(timeout=90)).decode()
        assert process.returncode == 0, said
        self.recovering = False
        if self.recording:
            self._remember()

    @precondition(lambda self: not self.lost and not self.recording)
    @rule()
    def protect(self) -> None:
        """The recovered server, in the middle of its recovery or after it: no image, but of what was written unseen."""
        unseen = any(self.model.rows[t] != self.recorded.rows[t] for t in self.model.rows)
        self._say(f"protect{', written to before' if unseen else ''}")
        if unseen and self.recovering:
            with pytest.raises(ProtectionError):
                protect_on(self.protected, self.db)
            return
        before = self.protected.vault().index.newest_timeline
        outcome = protect_on(self.protected, self.db)
        vault = self.protected.vault()
        assert (outcome.did, outcome.timeline) == ("another timeline", before + 1)
        images = [image for image in vault.index.images if image.timeline == outcome.timeline]
        assert unseen or not images, "nothing was written, and it was imaged"
        self._record()
        self._remember()
        self.steps = 0

    # What holds

    @invariant()
    def every_tenant_is_what_the_model_says(self) -> None:
        """And whoever is not back refuses."""
        if self.lost:
            return
        missing = self._missing()
        tables = [name for (name,) in self.conn.execute(TABLES_NOW)]
        assert sorted(tables) == sorted(self.model.rows)
        for table in self.model.rows:
            found = rows(self.conn, self.model, table)
            if table == WITHOUT_TENANTS:
                assert not self.shared_back or found == self.model.lines(table), table
            else:
                there = [t for t in self.model.tenants() if t not in missing]
                assert found == in_order([line for t in there for line in self.model.lines(table, t)]), table
        if not self.recovering or missing:
            wrong = self.conn.execute("SELECT FROM item WHERE twice IS DISTINCT FROM slot * 2").fetchall()
            assert not wrong, "a generated column"
        if missing:
            self._refused(missing)
        self.sound = True

    def _refused(self, missing: set[str]) -> None:
        with psycopg.connect(self.db.dsn_as("shop_app"), autocommit=True) as app:
            for tenant in sorted(missing):
                app.execute("SELECT set_config('ballast.tenant', %s, false)", [tenant])
                for statement in (
                    *(f"SELECT * FROM {table}" for table in self.model.rows if table != WITHOUT_TENANTS),
                    f"INSERT INTO log VALUES ({tenant}, 'too early')",
                    f"SELECT ballast.ensure_tenant('{tenant}', '1 millisecond')",
                ):
                    with pytest.raises(psycopg.Error) as refusal:
                        app.execute(statement.encode())
                    assert (refusal.value.sqlstate or "").startswith("BL00"), f"{statement}: {refusal.value}"

    def teardown(self) -> None:
        """Every moment of the story, from the vault, and the vault itself."""
        try:
            if self.sound:
                self._say("every moment once more")
                if self.recording:
                    self._sealed()
                    self.protected.stop()
                vault = self.protected.vault()
                for moment in self.moments:
                    assert vault.resolve(show(moment.cut)).exact
                    found = vault_rows(vault, moment.cut)
                    for relation in vault.relations_at(moment.cut).values():
                        if relation.schema == "public":
                            expected = copied(moment.model, relation.name)
                            assert found[relation.qualified] == expected, f"{relation.name} at {show(moment.cut)}"
                self.protected.verified()
        finally:
            self._say(f"the end, after {time.monotonic() - self.begun:.1f} s")
            if hasattr(self, "conn"):
                self.conn.close()
                self.protected.end()
                self.db.server.discard()

    # The way there

    def _say(self, line: str) -> None:
        self.sound = False  # until it was looked at
        self.steps += 1
        print(f"  {line}", flush=True)

    @property
    def calm(self) -> bool:
        """Whether nothing need happen yet: without losses there would be no story."""
        return self.steps < CALM_STEPS or self.losses == MOST_LOSSES

    def _run(self, statement: str) -> None:
        self.conn.execute(statement.encode())

    def _connect(self) -> Connection:
        conn: Connection = psycopg.connect(self.db.dsn, autocommit=True)
        return conn

    def _new_server(self) -> None:
        server = self.bench.own_server(major=self.bench.major)
        server.start()
        self.db = Database(server, self.bench.major, "postgres")

    def _target(self) -> None:
        if self.lost:
            self._new_server()
            self.conn = self._connect()

    def _record(self) -> None:
        self.protected.start()
        self.recording = True

    def _missing(self) -> set[str]:
        if not self.recovering or self.conn.execute("SELECT to_regclass('ballast_recovery.tenant')").fetchone() == (
            None,
        ):
            return set()
        return {tenant for (tenant,) in self.conn.execute(MISSING)}

    def _sealed(self) -> None:
        self.protected.sealed(self.moments[-1].cut)

    def _remember(self) -> None:
        ((lsn,),) = self.conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
        self.moments.append(Moment(Cut(self.protected.timeline, parse_lsn(lsn)), self.model.copy()))

    def _find(self, transaction: Transaction) -> None:
        if not transaction.position:
            vault = self.protected.vault()
            assert vault.index.newest_timeline == transaction.timeline
            found, _ = find_transaction(vault, str(transaction.xid))
            transaction.position = found.position

    def _write(
        self, tenant: str, others: list[str], done: list[tuple[str, int, int]], *, while_it_recovers: bool = False
    ) -> None:
        self._say(f"write for {tenant}: {done}")
        before = self.model.copy()
        with self._session(tenant) as conn:
            shopper = Shopper(conn, self.model, tenant, others)
            for kind, a, b in done:
                shopper.write(kind, a, b)
            ((xid,),) = conn.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
        if self.recording:
            if self.model.rows != before.rows:
                self.transactions.append(Transaction(self.protected.timeline, xid, before, self.model.copy()))
            if not while_it_recovers:
                self._remember()

    @contextmanager
    def _session(self, tenant: str) -> Iterator[Connection]:
        """A transaction of the application; while tenants come back, as a role that the gate holds up."""
        if not self._missing():
            with self.conn.transaction():
                yield self.conn
            return
        with psycopg.connect(self.db.dsn_as("shop_app"), autocommit=True) as conn, conn.transaction():
            conn.execute("SELECT ballast.ensure_tenant(%s)", [tenant])
            yield conn

    def _amended(self, after: Shops | None, amend: Callable[[], Rewound]) -> None:
        """It does just that (None: it refuses), and is a transaction like any other."""
        if after is None:
            with pytest.raises(BallastError):
                amend()
            return
        done = amend()
        if done.done:
            assert done.xid is not None
            self.transactions.append(Transaction(self.protected.timeline, done.xid, self.model.copy(), after.copy()))
        self.model = after
        self._remember()

    def _recovering(self, fail: str) -> subprocess.Popen[bytes]:
        """`ballast recover`, tenant by tenant."""
        ranks = self.protected.folder / "ranks.csv"
        tenants = self.model.tenants()
        turned = [*tenants[self.losses % len(tenants) :], *tenants[: self.losses % len(tenants)]] if tenants else []
        ranks.write_text("".join(f"{tenant},{rank}\n" for rank, tenant in enumerate(turned)))
        command = ("-m", "ballast.cli", "recover", "--json", "-j", "1", "--vault", self.protected.config.vault)
        return subprocess.Popen(
            [sys.executable, *command, "--into", self.db.dsn, "--priority", str(ranks)],
            env={**os.environ, "BALLAST_FAIL": fail}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


def rows(conn: Connection, model: Shops, table: str) -> Lines:
    """What the table holds, as the model has it."""
    names = ", ".join(f'"{column.name}"::text' for column in model.columns[table].values())
    return in_order(conn.execute(f"SELECT {names} FROM {table}".encode()).fetchall())


def copied(model: Shops, table: str) -> list[bytes]:
    """The model's rows as sorted COPY lines."""
    return sorted("\t".join(map(escaped, line)).encode() for line in model.lines(table))


def escaped(value: str | None) -> str:
    """A field of a COPY line."""
    if value is None:
        return "\\N"
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


@pytest.mark.slow
@pytest.mark.timeout(120 + 120 * STORIES)
@pytest.mark.parametrize("major", mostly_deep([18, 16], 18))
def test_after_each_step_every_tenant_is_what_the_model_says(
    major: int,
    own_server: NewServer,
    new_protected: Callable[..., Protected],
    fresh_database: Callable[[int], AbstractContextManager[Database]],
) -> None:
    bench = Bench(major, own_server, new_protected, fresh_database)
    told = settings(
        max_examples=STORIES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a story takes too long to be told shorter
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )

    @seed(1000 * major + SEED)
    def story() -> Recovery:
        return Recovery(bench)

    run_state_machine_as_test(story, settings=told)
