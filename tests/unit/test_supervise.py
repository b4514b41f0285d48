"""What a supervisor does next, and what of its parts' words a person sees: rules without processes."""

from __future__ import annotations

import signal
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ballast.supervise import rules
from ballast.supervise.lines import for_people
from ballast.supervise.part import Part
from ballast.supervise.rules import Signal, Start, State

PARTS = {
    part.name: part
    for part in (
        Part("server", ("server",), stops=2, hurry=signal.SIGQUIT),
        Part("prepare", ("prepare",), needs=("server",), once=True, stops=1),
        Part("recorder", ("recorder",), needs=("prepare", "server"), stops=1),
        Part("web", ("web",), needs=("recorder",), stop_patience_s=5.0),
    )
}


def all_in(phase: rules.Phase, **others: State) -> dict[str, State]:
    return {name: others.get(name, State(phase, pid=1)) for name in PARTS}


def up() -> dict[str, State]:
    return all_in("ready", prepare=State("done"))


def test_parts_start_when_what_they_need_is_there() -> None:
    states = {name: State() for name in PARTS}
    order = []
    while starts := rules.next_actions(PARTS, states, 0.0):
        for action in starts:
            assert isinstance(action, Start)
            order.append(action.name)
            part = PARTS[action.name]
            began = rules.started(states[action.name], 7, 0.0)
            states[action.name] = rules.ended(part, began, 0, 1.0) if part.once else rules.became_ready(began, 1.0)
    assert order == ["server", "prepare", "recorder", "web"]
    assert rules.all_up(states)


def test_a_part_that_dies_is_started_again_after_a_rest_and_counted() -> None:
    states = up()
    states["web"] = rules.ended(PARTS["web"], replace(states["web"], started=0.0), -9, 100.0)
    assert states["web"].phase == "resting"
    assert states["web"].ended == "was ended by SIGKILL"
    assert rules.next_actions(PARTS, states, 100.0) == []
    assert rules.next_actions(PARTS, states, 100.0 + rules.FIRST_REST_S) == [Start("web")]
    assert rules.started(states["web"], 8, 101.0).restarts == 1


def test_it_waits_for_what_it_needs_when_that_died_too() -> None:
    states = up()
    for name in ("server", "recorder"):
        states[name] = rules.ended(PARTS[name], states[name], -9, 100.0)
    assert rules.next_actions(PARTS, states, 200.0) == [Start("server")]


def test_quick_deaths_in_a_row_make_rests_longer_up_to_a_bound_and_a_long_life_ends_the_row() -> None:
    state, now, rests = State(), 0.0, []
    for _ in range(12):
        state = rules.ended(PARTS["web"], rules.started(state, 1, now), 1, now + 1)
        rests.append(state.again_at - state.since)
        now = state.again_at
    assert rests[0] == rules.FIRST_REST_S
    assert rests == sorted(rests)
    assert rests[-1] == rules.LONGEST_REST_S
    assert state.deaths >= rules.MANY_DEATHS
    long_lived = rules.ended(PARTS["web"], rules.started(state, 1, now), 1, now + PARTS["web"].lived_s)
    assert long_lived.deaths == 1


def test_a_part_that_does_not_get_ready_is_killed() -> None:
    states = up()
    states["web"] = State("starting", pid=3, started=0.0)
    assert rules.next_actions(PARTS, states, PARTS["web"].start_patience_s + 1) == [Signal("web", signal.SIGKILL)]


def test_a_step_that_fails_ends_all() -> None:
    states = all_in("waiting", server=State("ready"))
    states["prepare"] = rules.ended(PARTS["prepare"], rules.started(State(), 4, 0.0), 1, 1.0)
    assert rules.failed(states) == "prepare"
    assert rules.next_actions(PARTS, states, 99.0) == []


def test_it_stops_in_turns_and_kills_who_does_not_listen() -> None:
    states = up()
    assert rules.stop_actions(PARTS, states, 0.0, hurry=False) == [Signal("web", signal.SIGTERM)]
    states["web"] = rules.told(states["web"], signal.SIGTERM, 0.0)
    assert rules.stop_actions(PARTS, states, 4.0, hurry=False) == []
    assert rules.stop_actions(PARTS, states, 6.0, hurry=False) == [Signal("web", signal.SIGKILL)]
    states["web"] = rules.ended(PARTS["web"], states["web"], 0, 6.0)
    assert states["web"].phase == "stopped"
    assert rules.stop_actions(PARTS, states, 6.0, hurry=False) == [Signal("recorder", signal.SIGTERM)]


def test_asked_twice_it_hurries_in_the_same_order() -> None:
    states = up()
    states["web"] = rules.told(states["web"], signal.SIGTERM, 0.0)
    assert rules.stop_actions(PARTS, states, 0.1, hurry=True) == [Signal("web", signal.SIGKILL)]
    states["web"] = rules.ended(PARTS["web"], rules.told(states["web"], signal.SIGKILL, 0.1), -9, 0.2)
    states["recorder"] = State("stopped")
    assert rules.stop_actions(PARTS, states, 0.2, hurry=True) == [Signal("server", signal.SIGQUIT)]


@given(st.data())
def test_whatever_dies_when_all_end_at_last_and_the_server_after_everything_else(data: st.DataObject) -> None:
    """Stopping from any mixture of phases, with parts that listen at once, late or never."""
    phases: list[rules.Phase] = ["waiting", "starting", "ready", "resting"]
    states = rules.settled({name: State(data.draw(st.sampled_from(phases)), pid=1) for name in PARTS})
    deaf = {name: data.draw(st.booleans()) for name in PARTS}
    now = 0.0
    for _ in range(60):
        for action in rules.stop_actions(PARTS, states, now, hurry=False):
            if action.name == "server":
                assert not any(rules.lives(state) for name, state in states.items() if name != "server")
            states[action.name] = rules.told(states[action.name], action.number, now)
        for name, state in states.items():
            if state.phase == "stopping" and (not deaf[name] or state.signalled == signal.SIGKILL):
                states[name] = rules.ended(PARTS[name], state, -state.signalled, now)
        now += 5.0
    assert {state.phase for state in states.values()} == {"stopped"}


def test_a_person_sees_what_is_not_as_it_should_be() -> None:
    assert for_people('{"ts":"…","level":"info","event":"spool_ready","from":"recorder","cut_bytes":0}') is None
    alarm = '{"ts":"…","level":"alarm","event":"not_armed","from":"recorder","reason":{"what":"It may not.","do":"Grant it."}}'
    assert for_people(alarm) == "not armed: reason=It may not. Grant it."
    waits = '{"ts":"…","level":"warning","event":"stays_armed","from":"recorder"}'
    assert for_people(waits) == "stays armed"
    assert for_people(waits, ending=True) is None
    assert for_people(alarm, ending=True) == for_people(alarm)
    assert for_people("[INFO] Starting granian") is None
    assert for_people("[INFO] Starting granian", everything=True) == "[INFO] Starting granian"
    assert for_people("Traceback (most recent call last):") == "Traceback (most recent call last):"
    assert for_people("{ not JSON") == "{ not JSON"
