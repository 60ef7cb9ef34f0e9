"""What a method offers over a range of costs: curves of quality over cost, and the figures read off them.

A point is (cost, quality): the cost of a question in any unit, quality between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]
NOBODY: Point = (0.0, 0.0)
"""Asking nobody costs nothing, and answers nothing."""


def hull(points: Sequence[Point]) -> list[Point]:
    """The non-decreasing upper convex hull, from the cheapest point on.

    RouterBench (Hu et al. 2024, arXiv 2403.12031, section 3.2): mixing two routers at random reaches every point of the
    line between them, and nobody has to pay more for less.
    """
    found: list[Point] = []
    best = -np.inf
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if quality <= best:
            continue
        best = quality
        while len(found) > 1 and _slope(found[-2], found[-1]) <= _slope(found[-1], (cost, quality)):
            found.pop()
        found.append((cost, quality))
    return found


def quality_at(points: Sequence[Point], costs: Sequence[float] | np.ndarray) -> np.ndarray:
    """Quality of the hull at each cost: interpolated, flat beyond its ends."""
    curve = hull(points)
    values: np.ndarray = np.interp(
        np.asarray(costs, dtype=float), [cost for cost, _ in curve], [quality for _, quality in curve]
    )
    return values


def mean_quality(points: Sequence[Point], low: float, high: float) -> float:
    """The hull's mean over costs from low to high, exactly. Raises ValueError unless low < high."""
    if not low < high:
        raise ValueError(f"a range of costs from {low} to {high} holds nothing")
    inside = [cost for cost, _ in hull(points) if low < cost < high]
    costs = np.array([low, *inside, high])
    return float(np.trapezoid(quality_at(points, costs), costs) / (high - low))


def aiq(points: Sequence[Point], high: float) -> float:
    """Average improvement in quality: the mean of the hull over costs from 0 to `high`, the same for every method.

    RouterBench (arXiv 2403.12031, section 3.3): AIQ = 1 / (c_max - c_min) x integral of the hull. The curve begins with
    asking nobody, so that a method with one dear point is not credited with it at no cost. The AIQ of the candidates'
    own points is that of the zero router (section 3.4), which a router has to beat.
    """
    return mean_quality([NOBODY, *points], 0.0, high)


def apgr(points: Sequence[Point], weak: Point, strong: Point) -> float | None:
    """Average performance gap recovered, on a cost axis; None where the strong one is not both better and dearer.

    RouteLLM (Ong et al., ICLR 2025, arXiv 2406.18665, section 3.2): PGR = (r - r_weak) / (r_strong - r_weak), averaged
    over the share of calls to the strong model; here over the cost between both, so that any number of candidates and
    of calls fits. 0.5 is what mixing the two at random recovers.
    """
    if strong[0] <= weak[0] or strong[1] <= weak[1]:
        return None
    mean = mean_quality([weak, *_from(weak, points), strong], weak[0], strong[0])
    return (mean - weak[1]) / (strong[1] - weak[1])


def cpt(points: Sequence[Point], weak: Point, strong: Point, recovered: float) -> float | None:
    """Call-performance threshold, on a cost axis: the share of the way from the weak one's cost to the strong one's at
    which so much of the gap (0 to 1) is recovered; None where there is no gap.

    RouteLLM (arXiv 2406.18665, section 3.2) counts calls to the strong model instead.
    """
    if strong[0] <= weak[0] or strong[1] <= weak[1]:
        return None
    wanted = weak[1] + recovered * (strong[1] - weak[1])
    cost = cost_of([weak, *_from(weak, points), strong], wanted)
    return None if cost is None else (cost - weak[0]) / (strong[0] - weak[0])


def cost_of(points: Sequence[Point], quality: float) -> float | None:
    """The least cost at which the hull reaches a quality; None where it never does."""
    curve = hull(points)
    if quality > curve[-1][1]:
        return None
    return float(np.interp(quality, [reached for _, reached in curve], [cost for cost, _ in curve]))


def hypervolume(points: Sequence[Point], high: float) -> float:
    """Share of the box from cost 0 to `high` and quality 0 to 1 that lies beyond some point: dearer and worse.

    Zitzler and Thiele 1999 (IEEE Transactions on Evolutionary Computation 3(4)), with the reference (high, 0). Unlike
    AIQ it credits no mixing of points.
    """
    area, best, before = 0.0, 0.0, 0.0
    for cost, quality in sorted(point for point in points if point[0] < high):
        area += best * (cost - before)
        best, before = max(best, quality), cost
    return (area + best * (high - before)) / high


def _from(weak: Point, points: Sequence[Point]) -> list[Point]:
    return [point for point in points if point[0] >= weak[0]]


def _slope(one: Point, two: Point) -> float:
    return (two[1] - one[1]) / (two[0] - one[0]) if two[0] > one[0] else np.inf
