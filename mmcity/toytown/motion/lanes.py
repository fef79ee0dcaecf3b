"""Lanes and footways: polylines that agents follow."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.world.geometry2d import inset, round_corners
from mmcity.toytown.world.layout import StreetPlan

_STEP = 0.5


class Path2D:
    """Polyline with arc length."""

    def __init__(self, points: np.ndarray) -> None:
        points = np.asarray(points, dtype=np.float64)
        keep = np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 1e-6])
        self.points = points[keep]
        self.arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.points, axis=0).T))])

    @property
    def length(self) -> float:
        """Length in metres."""
        return float(self.arc[-1])

    def at(self, s: np.ndarray | float) -> np.ndarray:
        """Positions (..., 2) at arc lengths, clamped to the ends."""
        return np.stack([np.interp(s, self.arc, self.points[:, k]) for k in (0, 1)], axis=-1)

    def heading(self, s: np.ndarray | float, reach: float = 1.2) -> np.ndarray:
        """Headings in radians at arc lengths, from a chord of ``2 * reach`` metres."""
        s = np.clip(s, reach, max(self.length - reach, reach))
        d = self.at(s + reach) - self.at(s - reach)
        return np.arctan2(d[..., 1], d[..., 0])


def _bezier(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> np.ndarray:
    """Curve that leaves a along da and enters b along db."""
    reach = 0.45 * np.hypot(*(b - a))
    t = np.linspace(0, 1, 17)[:, None]
    p1, p2 = a + da * reach, b - db * reach
    return (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * p1 + 3 * t**2 * (1 - t) * p2 + t**3 * b


@dataclass
class _Lane:
    start_node: int
    end_node: int
    start: np.ndarray
    end: np.ndarray
    direction: np.ndarray


class LaneGraph:
    """Directed lanes of a street plan, right-hand traffic."""

    def __init__(self, plan: StreetPlan) -> None:
        self.lanes: list[_Lane] = []
        for road in plan.roads:
            right = np.array([road.direction[1], -road.direction[0]])
            offset = (1.55 if road.has_parking else road.width / 4) * right
            begin = road.start + road.direction * road.trims[0]
            end = road.end - road.direction * road.trims[1]
            a, b = road.nodes
            self.lanes.append(_Lane(a, b, begin + offset, end + offset, road.direction))
            self.lanes.append(_Lane(b, a, end - offset, begin - offset, -road.direction))
        self._out: dict[int, list[int]] = {}
        for k, lane in enumerate(self.lanes):
            self._out.setdefault(lane.start_node, []).append(k)

    def successors(self, lane: int) -> list[int]:
        """Lanes that one can turn into; turning round only where nothing else is left."""
        here = self.lanes[lane]
        choices = self._out.get(here.end_node, [])
        onward = [k for k in choices if self.lanes[k].end_node != here.start_node]
        return onward or choices

    def route(
        self, start: int, length: float, rng: np.random.Generator
    ) -> tuple[Path2D, list[tuple[float, int, bool]]]:
        """Random route of at least ``length`` metres.

        Returns:
            tuple: The path, and its stop lines as (arc length, node, along the y axis).
        """
        points, stops = [], []
        lane, total = start, 0.0
        while True:
            here = self.lanes[lane]
            n = max(int(np.hypot(*(here.end - here.start)) / _STEP), 2)
            points.append(here.start + (here.end - here.start) * np.linspace(0, 1, n)[:, None])
            path = Path2D(np.concatenate(points))
            total = path.length
            stops.append((total - 5.0, here.end_node, abs(here.direction[1]) > 0.8))
            if total >= length:
                return path, stops
            choices = self.successors(lane)
            following = choices[int(rng.integers(len(choices)))]
            then = self.lanes[following]
            points.append(_bezier(here.end, here.direction, then.start, then.direction)[1:-1])
            lane = following


def footways(plan: StreetPlan) -> list[np.ndarray]:
    """Closed walking line on the sidewalk of each block, (N, 2) counter-clockwise."""
    lines = []
    for block in plan.blocks:
        line = round_corners(inset(block.polygon, 0.62 * block.sidewalk), 2.2, 4)
        path = Path2D(np.concatenate([line, line[:1]]))
        lines.append(path.at(np.linspace(0, path.length, int(path.length / 1.5))[:-1]))
    return lines
