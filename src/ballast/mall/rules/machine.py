"""State machines as tables: what may happen in which state, and what follows. All that is not in the table is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from ballast.mall.rules.refused import Refused

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)
Next = TypeVar("Next")


class IllegalTransition(Refused):
    """Nothing of the kind may happen in this state. `allowed`: the events that may."""

    def __init__(self, subject: str, state: str, event: str, allowed: tuple[str, ...]) -> None:
        may = f"Possible is: {', '.join(allowed)}." if allowed else "Nothing may happen to it any more."
        super().__init__(
            f"{subject}.illegal_transition",
            f"The {subject} is {state}: {event} is not possible.",
            may,
            state=str(state),
            event=str(event),
            allowed=", ".join(allowed),
        )
        self.state, self.event, self.allowed = state, event, allowed


class Machine(Generic[State, Event, Next]):
    """`table`: (state, event) → what follows. `subject`: what it is about, for errors and the keys of texts."""

    def __init__(self, subject: str, table: Mapping[tuple[State, Event], Next]) -> None:
        self._subject = subject
        self._table = dict(table)

    def allowed(self, state: State) -> tuple[Event, ...]:
        """The events that may happen in `state`, in the order of the table."""
        return tuple(event for at, event in self._table if at == state)

    def step(self, state: State, event: Event) -> Next:
        """What follows `event` in `state`; IllegalTransition where it may not happen."""
        try:
            return self._table[state, event]
        except KeyError:
            raise IllegalTransition(self._subject, state, event, self.allowed(state)) from None
