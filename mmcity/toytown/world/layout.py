"""Street plan: road grid with a missing edge and a diagonal, blocks, crossings."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.geometry2d import clip_half_plane, drop_short_edges, rectangle, unit2

#: Radius of the kerb at street corners, metres.
CORNER_RADIUS = 3.5


@dataclass
class Road:
    """Straight road between two junctions.

    Attributes:
        nodes: Indices of the junctions.
        start: (2,) centre of the first junction.
        end: (2,) centre of the second junction.
        width: Kerb to kerb, metres.
        trims: Length at either end that belongs to the junction.
        has_parking: Vehicles park along both kerbs.
    """

    nodes: tuple[int, int]
    start: np.ndarray
    end: np.ndarray
    width: float
    trims: tuple[float, float]
    has_parking: bool

    @property
    def direction(self) -> np.ndarray:
        """(2,) unit vector from start to end."""
        return unit2(self.end - self.start)

    @property
    def length(self) -> float:
        """Length in metres."""
        return float(np.hypot(*(self.end - self.start)))


@dataclass
class Crossing:
    """Zebra crossing: centre, direction of walking, length kerb to kerb, and its road."""

    center: np.ndarray
    across: np.ndarray
    length: float
    road: int


@dataclass
class Block:
    """Land between roads: convex polygon at the kerb and what it is used for."""

    polygon: np.ndarray
    use: str  # 'built', 'park' or 'plaza'
    sidewalk: float


@dataclass
class StreetPlan:
    """All of it; ``half_extent`` is the outer kerb of the perimeter road along x and y."""

    nodes: np.ndarray
    roads: list[Road]
    blocks: list[Block]
    crossings: list[Crossing]
    low: np.ndarray
    high: np.ndarray


def _grid_lines(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    lines = np.concatenate([[0.0], np.cumsum(rng.uniform(low, high, n))])
    return lines - lines[-1] / 2


def make_street_plan(config: ToytownConfig, rng: np.random.Generator) -> StreetPlan:
    """Draw the plan of a town.

    One edge in about six inner ones is missing (two blocks join), and one block in about
    six is cut by a diagonal road.
    """
    nx, ny = config.grid
    xs, ys = _grid_lines(rng, nx, 42, 54), _grid_lines(rng, ny, 38, 48)
    width_x = np.round(rng.choice([7.2, 7.8, 9.0], nx + 1, p=[0.25, 0.25, 0.5]), 1)
    width_y = np.round(rng.choice([7.2, 7.8, 9.0], ny + 1, p=[0.25, 0.25, 0.5]), 1)
    nodes = np.array([[x, y] for x in xs for y in ys])

    def node(i: int, j: int) -> int:
        return i * (ny + 1) + j

    cells = [(i, j) for i in range(nx) for j in range(ny)]
    free = [cells[k] for k in rng.permutation(len(cells))]
    merges, diagonals = {}, []
    for count in range(max(1, len(cells) // 6) if len(cells) > 1 else 0):
        for i, j in list(free):
            step = (1, 0) if (count + int(rng.integers(2))) % 2 == 0 else (0, 1)
            other = (i + step[0], j + step[1])
            if other in free:
                merges[(i, j)] = other
                free.remove((i, j))
                free.remove(other)
                break
    if len(cells) > 2:
        diagonals = [free.pop() for _ in range(min(max(1, len(cells) // 9), len(free)))]

    removed = set()
    for (i, _), (k, l) in merges.items():
        removed.add((node(k, l), node(k, l + 1)) if k > i else (node(k, l), node(k + 1, l)))
    roads = []
    for i in range(nx + 1):
        for j in range(ny):
            pair = (node(i, j), node(i, j + 1))
            if pair not in removed:
                trims = (width_y[j] / 2 + CORNER_RADIUS, width_y[j + 1] / 2 + CORNER_RADIUS)
                roads.append(
                    Road(pair, nodes[pair[0]], nodes[pair[1]], width_x[i], trims, width_x[i] > 8.5)
                )
    for j in range(ny + 1):
        for i in range(nx):
            pair = (node(i, j), node(i + 1, j))
            if pair not in removed:
                trims = (width_x[i] / 2 + CORNER_RADIUS, width_x[i + 1] / 2 + CORNER_RADIUS)
                roads.append(
                    Road(pair, nodes[pair[0]], nodes[pair[1]], width_y[j], trims, width_y[j] > 8.5)
                )
    crossings = _make_crossings(roads)
    diagonal_width = 7.0
    for i, j in diagonals:
        pair = (node(i, j), node(i + 1, j + 1))
        roads.append(
            Road(pair, nodes[pair[0]], nodes[pair[1]], diagonal_width, (15.0, 15.0), False)
        )

    blocks = []
    skip = set(merges.values())
    uses = rng.permutation(np.arange(len(cells)))
    for index, (i, j) in enumerate(cells):
        if (i, j) in skip:
            continue
        k, l = merges.get((i, j), (i, j))
        polygon = rectangle(
            xs[i] + width_x[i] / 2,
            ys[j] + width_y[j] / 2,
            xs[k + 1] - width_x[k + 1] / 2,
            ys[l + 1] - width_y[l + 1] / 2,
        )
        sidewalk = float(np.round(rng.uniform(2.0, 2.5), 2))
        use = "built"
        if (i, j) not in merges and (i, j) not in diagonals and len(cells) > 1:
            use = {0: "park", 1: "plaza"}.get(int(uses[index]) % 7, "built")
        if (i, j) in diagonals:
            direction = unit2(nodes[node(i + 1, j + 1)] - nodes[node(i, j)])
            normal = np.array([-direction[1], direction[0]])
            middle = float(nodes[node(i, j)] @ normal)
            for sign in (1, -1):
                half = clip_half_plane(polygon, sign * normal, sign * middle + diagonal_width / 2)
                half = drop_short_edges(half, 7.0)
                blocks.append(Block(half, "built" if sign > 0 else "park", sidewalk))
        else:
            blocks.append(Block(polygon, use, sidewalk))
    low = np.array([xs[0] - width_x[0] / 2, ys[0] - width_y[0] / 2])
    high = np.array([xs[-1] + width_x[-1] / 2, ys[-1] + width_y[-1] / 2])
    return StreetPlan(nodes, roads, blocks, crossings, low, high)


def _make_crossings(roads: list[Road]) -> list[Crossing]:
    crossings = []
    for index, road in enumerate(roads):
        across = np.array([-road.direction[1], road.direction[0]])
        for end, sign, trim in ((road.start, 1, road.trims[0]), (road.end, -1, road.trims[1])):
            center = end + sign * (trim + 2.0) * road.direction
            crossings.append(Crossing(center, across, road.width, index))
    return crossings
