"""Where tenants are at a moment: at home or in the lifeboat, and how that changes. Pure: no clock, no server, no file.

`home` → (a sure sign of loss) → `launching` → (the lifeboat is open) → `afloat` → (the new server is open) → `returning` → (every
tenant is home) → `home`. A launch that fails is tried again and leaves the course at `launching`; should home be well before it
succeeds, `home`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity.signs import Sign

Mode = Literal["home", "launching", "afloat", "returning"]
Place = Literal["home", "lifeboat", "nowhere"]


class Course(msgspec.Struct, frozen=True):
    """What every process of the machine must know."""

    number: int = 0
    """Grows with each change."""
    mode: Mode = "home"
    since: datetime | None = None
    """When the loss was noticed."""
    why: Sign = Sign.NONE
    only: frozenset[str] | None = None
    """The tenants that it is about; None: all."""
    lifeboat: str = ""
    """Its DSN, without a role."""
    as_of: datetime | None = None
    """Of the record that the lifeboat was built from."""
    vault_away: bool = False
    """The record could not be read: who is not in the lifeboat yet cannot come."""
    back: frozenset[str] = frozenset()
    """While returning: tenants that are home, their entries merged."""
    no_room: bool = False
    """Home takes no writes, and the lifeboat and the intake are on a disk that is as full: whoever is there changes nothing."""
    home: str = ""
    """Home's address, as who told this knows it; "": nobody has said it yet."""
    moved: dict[str, str] = {}
    """Servers that were home, by address, and where home is instead."""

    def at_home(self, dsn: str) -> str:
        """A DSN of home as a process was given it, with home's address of now. One that goes there by another way (a pooler in
        between) is not known, and is as it was."""
        now = self.moved.get(address(dsn)) if self.moved else None
        if now is None:
            return dsn
        who = {name: said for name, said in conninfo_to_dict(dsn).items() if name not in _ADDRESS}
        return make_conninfo("", **who, **conninfo_to_dict(now))

    def place(self, tenant: str) -> Place:
        """Where this tenant's next transaction belongs."""
        if self.mode == "home" or (self.only is not None and tenant not in self.only) or tenant in self.back:
            return "home"
        return "lifeboat" if self.lifeboat else "nowhere"

    def lost(self, why: Sign, now: datetime, only: frozenset[str] | None = None) -> Course:
        """The loss is noticed. While tenants come home it is another loss: those that are back are concerned as well."""
        # Whom the loss before this one did not concern has been at home since.
        wider = None if only is None or self.only is None else self.only | only
        if self.mode in ("launching", "afloat"):
            return self._next(only=wider)
        if self.mode == "returning":
            return self._next(mode="afloat", why=why, only=wider, back=frozenset())
        return self._next(mode="launching", since=now, why=why, only=only, no_room=False)

    def launched(self, lifeboat: str, as_of: datetime | None, *, vault_away: bool = False) -> Course:
        """The lifeboat is open: the first, or another in the place of one that was lost."""
        mode: Mode = "afloat" if self.mode == "launching" else self.mode
        return self._next(mode=mode, lifeboat=lifeboat, as_of=as_of, vault_away=vault_away)

    def home_is_open(self) -> Course:
        """Tenants may go home, one by one."""
        return self._next(mode="returning") if self.mode == "afloat" else self

    def came_home(self, tenant: str) -> Course:
        """This one is merged and is served at home from now on."""
        return self._next(back=self.back | {tenant})

    def all_home(self) -> Course:
        """It is over."""
        return Course(self.number + 1, home=self.home, moved=self.moved)

    def with_room(self, has: bool) -> Course:
        """Home takes no writes and is not left for it, or takes them again."""
        return self._next(no_room=not has)

    def with_home(self, now: str) -> Course:
        """Home's DSN is this one: where another address was told before, who was given that finds it."""
        new = address(now)
        if new == self.home:
            return self
        moved = {old: new for old in (*self.moved, self.home) if old not in ("", new)}
        return self._next(home=new, moved=moved)

    def _next(self, **changed: object) -> Course:
        return msgspec.structs.replace(self, number=self.number + 1, **changed)


_ADDRESS = ("host", "hostaddr", "port", "dbname")


def address(dsn: str) -> str:
    """Where it leads, without who goes there."""
    said = conninfo_to_dict(dsn)
    return make_conninfo("", **{name: said[name] for name in _ADDRESS if said.get(name)})
