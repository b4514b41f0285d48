"""Plots as paths in a small coordinate system that a template draws as SVG. Pure.

All share one frame: `WIDTH` by `HEIGHT`, small enough to be read on a phone, in which y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 30
Point = tuple[float, float]


class Axis(msgspec.Struct, frozen=True):
    """Values to places along one side."""

    low: float
    high: float
    start: float
    """Where `low` is."""
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value; what is beyond the ends is at them."""
        low, high, value = (math.log10(max(one, 1e-9)) if self.log else one for one in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.0
        return round(self.start + (self.end - self.start) * min(1.0, max(0.0, share)), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of round values."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [(self.at(10.0**power), f"{10.0**power:g}") for power in powers]
        step = step_of(self.high - self.low)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(self.at(n * step), f"{n * step:g}") for n in range(first, last + 1)]


class Line(msgspec.Struct, frozen=True):
    """Something drawn: `kind` is its class in the page."""

    kind: str
    path: str = ""
    dots: tuple[Point, ...] = ()
    area: bool = False


class Band(msgspec.Struct, frozen=True):
    """A stretch of time behind all of it."""

    kind: str
    x: float
    width: float


class Plot(msgspec.Struct, frozen=True):
    """One plot."""

    name: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    bands: tuple[Band, ...]


def step_of(span: float, most: int = 6) -> float:
    """The smallest of 1, 2, 5, 10, … that divides the span into `most` parts at most."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * one for one in (1, 2, 5, 10) if span / (power * one) <= most)


def across(low: float, high: float) -> Axis:
    """The axis of time."""
    return Axis(low, high, LEFT, WIDTH - RIGHT)


def upwards(high: float, low: float = 0.0, *, log: bool = False) -> Axis:
    """The axis of values, to the next round one."""
    if log:
        high, low = 10.0 ** math.ceil(math.log10(high)), 10.0 ** math.floor(math.log10(low))
        return Axis(low, max(high, low * 10), HEIGHT - BOTTOM, TOP, log=True)
    step = step_of(high or 1.0)
    return Axis(low, math.ceil((high or 1.0) / step - 1e-9) * step, HEIGHT - BOTTOM, TOP)


def curve(kind: str, points: Sequence[Point], x: Axis, y: Axis, *, area: bool = False) -> Line:
    """From point to point; `area`: filled down to nothing."""
    places = [(x.at(a), y.at(b)) for a, b in points]
    path = "M" + " L".join(f"{a:g} {b:g}" for a, b in places) if places else ""
    if area and places:
        path += f" L{places[-1][0]:g} {y.start:g} L{places[0][0]:g} {y.start:g} Z"
    return Line(kind, path, area=area)


def stairs(kind: str, points: Sequence[Point], x: Axis, y: Axis) -> Line:
    """A value that holds until the next one; filled."""
    steps: list[Point] = []
    for at, value in points:
        if steps:
            steps.append((at, steps[-1][1]))
        steps.append((at, value))
    return curve(kind, steps, x, y, area=True)


def dots(kind: str, points: Sequence[Point], x: Axis, y: Axis) -> Line:
    """Each by itself."""
    return Line(kind, dots=tuple((x.at(a), y.at(b)) for a, b in points))


def smooth(counts: Sequence[float], over: int) -> list[float]:
    """The mean of each value and those around it, `over` in all."""
    half = over // 2
    parts = [counts[max(0, at - half) : at + half + 1] for at in range(len(counts))]
    return [sum(part) / len(part) for part in parts]
