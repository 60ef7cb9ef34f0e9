"""Geometry of the report's charts: values to positions. Widths are percent, so that charts follow the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

LABEL_HEIGHT = 15.0
CHARACTER_WIDTH = 6.6
PLOT_WIDTH = 900.0
"""Pixels that labels are laid out for."""
SLOTS = (
    (9.0, 4.0, "start"), (-9.0, 4.0, "end"), (0.0, -11.0, "middle"), (0.0, 20.0, "middle"), (9.0, -9.0, "start"),
    (9.0, 17.0, "start"), (-9.0, -9.0, "end"), (-9.0, 17.0, "end"), (9.0, -23.0, "start"), (9.0, 31.0, "start"),
)  # fmt: skip
"""Where a label may stand, the best first: offset in pixels, and its anchor."""
ALWAYS_LABELLED = ("router", "bound")
"""In a crowd the others go without: the title of a point, and the table, still name it."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Whisker:
    """A value with its interval on a horizontal track, percent of the track."""

    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A labelled point; x and y in percent of the plot, y downwards; the label's offset in pixels."""

    x: float
    y: float
    low: float
    high: float
    label: str
    kind: str
    title: str
    dx: float = 9.0
    dy: float = 4.0
    anchor: str = "start"


@dataclass(frozen=True)
class Curve:
    """A line through points, percent of the plot, y downwards."""

    kind: str
    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scatter:
    """EM over cost."""

    points: tuple[Point, ...]
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    height: int


@dataclass(frozen=True)
class Segment:
    """A part of a stacked bar, percent."""

    start: float
    width: float
    colour: int
    name: str
    share: float


def whisker(value: float, low: float, high: float, top: float = 1.0) -> Whisker:
    """Positions of a value between 0 and `top`."""
    return Whisker(*(_percent(number / top) for number in (value, low, high)))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that cover low..high."""
    span = max(high - low, 1e-9)
    raw = span / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, last + 1)]


@dataclass(frozen=True)
class Spot:
    """A point before it is placed: cost in millionths of a dollar, EM with its interval."""

    label: str
    kind: str
    cost: float
    em: float
    low: float
    high: float


def scatter(spots: Sequence[Spot], lines: Mapping[str, Sequence[tuple[float, float]]], height: int = 380) -> Scatter:
    """EM over cost with labels that keep out of each other's way, the first spots first.

    `lines`: label -> (cost, EM) of a curve's corners; each is drawn on, level, to the right edge.
    """
    xs = nice_ticks(0.0, max(spot.cost for spot in spots) * 1.08 or 1.0)
    ys = nice_ticks(0.0, min(1.0, max(spot.high for spot in spots)))
    bare = [
        Point(
            x=_percent(spot.cost / xs[-1]), y=_percent(1 - spot.em / ys[-1]),
            low=_percent(1 - spot.low / ys[-1]), high=_percent(1 - spot.high / ys[-1]),
            label=spot.label, kind=spot.kind, title=f"{spot.label}: EM {100 * spot.em:.1f}, cost {spot.cost:.2f}",
        )
        for spot in spots
    ]  # fmt: skip
    marks = [_mark(point, height) for point in bare]
    points: list[Point] = []
    for point in bare:
        points.append(_placed(point, points, marks, height))
    curves = tuple(
        Curve(
            f"curve{number}", label,
            tuple((_percent(x / xs[-1]), _percent(1 - y / ys[-1])) for x, y in [*line, (xs[-1], line[-1][1])]),
        )
        for number, (label, line) in enumerate(lines.items())
    )  # fmt: skip
    return Scatter(
        tuple(points),
        curves,
        tuple(Tick(_percent(x / xs[-1]), f"{x:g}") for x in xs),
        tuple(Tick(_percent(1 - y / ys[-1]), f"{100 * y:g}") for y in ys),
        height,
    )


def stack(shares: Mapping[str, float], names: Sequence[str]) -> tuple[Segment, ...]:
    """A stacked bar of shares, in the order of `names`, whose places give the colours."""
    segments, start = [], 0.0
    for colour, name in enumerate(names):
        share = shares.get(name, 0.0)
        if share > 0:
            segments.append(Segment(_percent(start), _percent(share), colour, name, share))
        start += share
    return tuple(segments)


def _placed(point: Point, labelled: Sequence[Point], marks: Sequence[Box], height: int) -> Point:
    taken = [_box(other, height) for other in labelled] + [mark for mark in marks if mark != _mark(point, height)]
    for dx, dy, anchor in SLOTS:
        trial = replace(point, dx=dx, dy=dy, anchor=anchor)
        box = _box(trial, height)
        if box[0] >= 0 and box[2] <= PLOT_WIDTH and not any(_overlap(box, other) for other in taken):
            return trial
    return point if point.kind in ALWAYS_LABELLED else replace(point, label="")


def _mark(point: Point, height: int) -> Box:
    x, y = _px(point.x), _py(point.y, height)
    return x - 6, y - 6, x + 6, y + 6


def _box(point: Point, height: int) -> Box:
    width = CHARACTER_WIDTH * len(point.label)
    left = _px(point.x) + point.dx - {"start": 0.0, "middle": width / 2, "end": width}[point.anchor]
    bottom = _py(point.y, height) + point.dy + 3
    return left, bottom - LABEL_HEIGHT, left + width, bottom


def _overlap(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _px(percent: float) -> float:
    return percent / 100 * PLOT_WIDTH


def _py(percent: float, height: int) -> float:
    return percent / 100 * height


def _percent(share: float) -> float:
    return round(100 * min(1.0, max(0.0, share)), 3)
