"""When what happened, read from what the parts say of themselves while the replay runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from ballast.continuity.board import Board
from ballast.continuity.course import Course, Mode
from ballast.supervise import Note

EVERY_S = 0.05
_LOOK_S = 0.3
Moment = Literal[
    "lost",
    "noticed",
    "afloat",
    "struck",
    "first_order",
    "home_open",
    "first_home",
    "all_home",
    "changed",
    "found",
    "undone",
    "reviewed",
]
ORDER: tuple[Moment, ...] = (
    "lost", "noticed", "afloat", "first_order", "struck", "home_open", "first_home", "all_home",
    "changed", "found", "undone", "reviewed",
)  # fmt: skip


class Log:
    """Moments (seconds since 1970), and which shop was home since when. Pure but for its clock."""

    def __init__(self, heard: Callable[[Moment], None] = lambda what: None) -> None:
        """`heard` is told each moment as it comes."""
        self.at: dict[Moment, float] = {}
        self.home_since: dict[str, float] = {}
        """Tenants that were away and are home, since the last loss."""
        self.most_away = 0
        self.mode: Mode = "home"
        self._heard = heard

    def note(self, moment: Moment, at: float) -> None:
        """It happened for the first time."""
        if moment not in self.at:
            self.at[moment] = at
            self._heard(moment)

    def follow(self, course: Course, now: float) -> None:
        """What the course says, some moments after what it said before."""
        if "lost" not in self.at:
            return
        before, self.mode = self.mode, course.mode
        if course.mode != "home":
            self.note("noticed", course.since.timestamp() if course.since else now)
            self.at.pop("all_home", None)
        if course.lifeboat:
            self.note("afloat", now)
        if course.mode in ("launching", "afloat"):
            self.home_since.clear()
            self.at.pop("home_open", None)
            self.at.pop("first_home", None)
        if course.mode == "returning":
            self.note("home_open", now)
            for tenant in course.back - self.home_since.keys():
                self.note("first_home", now)
                self.home_since[tenant] = now
        if course.mode == "home" and before != "home":
            self.note("home_open", now)
            self.note("first_home", now)
            self.note("all_home", now)

    def since_loss(self, moment: Moment) -> float | None:
        """Seconds, or since data was changed; None: it did not happen."""
        begun, at = self.begun, self.at.get(moment)
        return None if begun is None or at is None else max(0.0, at - begun)

    @property
    def begun(self) -> float | None:
        """When data was lost or changed."""
        return self.at.get("lost", self.at.get("changed"))

    def was_away(self, shop_id: str, at: float) -> bool:
        """Whether a shop was served without its own database at this moment."""
        lost = self.at.get("lost")
        if lost is None or at < lost or "noticed" not in self.at:
            return False
        return at < min(self.home_since.get(shop_id, float("inf")), self.at.get("all_home", float("inf")))


class Watch:
    """Looks at board and supervisor until it is cancelled."""

    def __init__(self, board: Board, look: Callable[[], Note | None], log: Log) -> None:
        self._board, self._look, self._log = board, look, log
        self.course = Course()
        self.note: Note | None = None
        self.not_up: list[tuple[float, float]] = []
        """When parts that answer shoppers were not there: from, until it was seen again."""
        self._down_since: float | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        looked = 0.0
        while True:
            now = time.time()
            self.course = self._board.course()
            self._log.follow(self.course, now)
            if now - looked > _LOOK_S:
                looked, self.note = now, self._look()
                self._faces(now)
            await asyncio.sleep(EVERY_S)

    def _faces(self, now: float) -> None:
        web = next((part for part in self.note.parts if part.name == "web"), None) if self.note else None
        if web is None or web.phase != "ready":
            self._down_since = self._down_since or now
        elif self._down_since is not None:
            self.not_up.append((self._down_since, now))
            self._down_since = None
