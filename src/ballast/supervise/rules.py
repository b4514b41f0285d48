"""What follows from what was seen of the parts. Pure: states and a time in, states and actions out.

    waiting ──► starting ──► ready ──────────┐
       ▲           │            │            ▼
       │           ▼            ▼        stopping ──► stopped
       └──────── resting (it died; a while, longer each time)

A part with `once` goes from starting to done, or to failed, and then everything ends. Times are seconds of a clock that only
goes forward.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ballast.supervise.part import Part

Phase = Literal["waiting", "starting", "ready", "resting", "stopping", "stopped", "done", "failed"]

FIRST_REST_S, LONGEST_REST_S = 0.5, 30.0
MANY_DEATHS = 5
"""So many quick deaths in a row are told as what they are."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a part is."""

    phase: Phase = "waiting"
    since: float = 0.0
    pid: int | None = None
    started: float = 0.0
    again_at: float = 0.0
    """When it may be started again, while it rests."""
    deaths: int = 0
    """Quick ones in a row."""
    restarts: int = 0
    ended: str = ""
    """How it ended the last time, for people."""
    signalled: int = 0
    """The signal that it was told last, while it stops."""


States = Mapping[str, State]


@dataclass(frozen=True, slots=True)
class Start:
    """This part is to be started."""

    name: str


@dataclass(frozen=True, slots=True)
class Signal:
    """This part is to be told a signal; SIGKILL goes to all that it has started, too."""

    name: str
    number: int


Action = Start | Signal
_LIVING: frozenset[Phase] = frozenset({"starting", "ready", "stopping"})


def lives(state: State) -> bool:
    """Whether there is a process."""
    return state.phase in _LIVING


def started(state: State, pid: int, now: float) -> State:
    """It was started."""
    again = state.phase == "resting"
    return replace(state, phase="starting", since=now, started=now, pid=pid, restarts=state.restarts + again)


def became_ready(state: State, now: float) -> State:
    """It can be used."""
    return replace(state, phase="ready", since=now)


def ended(part: Part, state: State, code: int, now: float) -> State:
    """Its process has ended. `code`: as `subprocess` tells it, negative for a signal."""
    how = how_ended(code)
    if state.phase == "stopping":
        return replace(state, phase="stopped", since=now, pid=None, ended=how, signalled=0)
    if part.once:
        return replace(state, phase="done" if code == 0 else "failed", since=now, pid=None, ended=how)
    deaths = 1 if now - state.started >= part.lived_s else state.deaths + 1
    return replace(state, phase="resting", since=now, pid=None, ended=how, deaths=deaths, again_at=now + rest_s(deaths))


def rest_s(deaths: int) -> float:
    """How long a part rests after so many quick deaths in a row."""
    return min(FIRST_REST_S * 2.0 ** (deaths - 1), LONGEST_REST_S)


def how_ended(code: int) -> str:
    """In words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def next_actions(parts: Mapping[str, Part], states: States, now: float) -> list[Action]:
    """What is to be done while all is to run."""
    actions: list[Action] = []
    for name, part in parts.items():
        state = states[name]
        if state.phase == "starting" and now - state.started > part.start_patience_s:
            actions.append(Signal(name, signal.SIGKILL))
        rested = state.phase == "waiting" or (state.phase == "resting" and now >= state.again_at)
        if rested and all(states[needed].phase in ("ready", "done") for needed in part.needs):
            actions.append(Start(name))
    return actions


def all_up(states: States) -> bool:
    """Whether every part can be used, or has done what it was for."""
    return all(state.phase in ("ready", "done") for state in states.values())


def failed(states: States) -> str | None:
    """The part without which nothing goes on, if there is one."""
    return next((name for name, state in states.items() if state.phase == "failed"), None)


def stop_actions(parts: Mapping[str, Part], states: States, now: float, *, hurry: bool) -> list[Signal]:
    """What is to be told to whom while all is to end: only those whose turn it is. None living: nothing."""
    living = [name for name in parts if lives(states[name])]
    turn = min((parts[name].stops for name in living), default=0)
    actions = []
    for name in living:
        part, state = parts[name], states[name]
        if part.stops != turn:
            continue
        if state.phase != "stopping":
            actions.append(Signal(name, part.hurry if hurry else signal.SIGTERM))
        elif state.signalled == signal.SIGTERM and hurry:
            actions.append(Signal(name, part.hurry))
        elif state.signalled != signal.SIGKILL and now - state.since > part.stop_patience_s:
            actions.append(Signal(name, signal.SIGKILL))
    return actions


def told(state: State, number: int, now: float) -> State:
    """It was told a signal on its way out."""
    since = state.since if state.phase == "stopping" else now
    return replace(state, phase="stopping", since=since, signalled=number)


def settled(states: States) -> dict[str, State]:
    """At the end: those without a process are stopped, too."""
    return {
        name: replace(state, phase="stopped") if state.phase in ("waiting", "resting") else state
        for name, state in states.items()
    }
