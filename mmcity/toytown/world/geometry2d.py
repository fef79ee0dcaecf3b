"""Convex polygons of the street plan, counter-clockwise (N, 2) arrays in metres."""

import numpy as np


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Axis-aligned rectangle, (4, 2)."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def area(polygon: np.ndarray) -> float:
    """Signed area, positive for counter-clockwise."""
    x, y = polygon.T
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def clip_half_plane(polygon: np.ndarray, normal: np.ndarray, offset: float) -> np.ndarray:
    """Part of a convex polygon where ``p . normal >= offset``; may come out empty."""
    distance = polygon @ np.asarray(normal) - offset
    out = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if distance[i] >= 0:
            out.append(polygon[i])
        if (distance[i] >= 0) != (distance[j] >= 0):
            t = distance[i] / (distance[i] - distance[j])
            out.append(polygon[i] + t * (polygon[j] - polygon[i]))
    return np.array(out).reshape(-1, 2)


def inset(polygon: np.ndarray, distance: float) -> np.ndarray:
    """Shrink a convex polygon by moving each edge inwards.

    Returns:
        np.ndarray: (N, 2) corners in the same order, or (0, 2) where an edge would vanish.
    """
    edges = np.roll(polygon, -1, axis=0) - polygon
    normals = np.column_stack([-edges[:, 1], edges[:, 0]]) / np.hypot(*edges.T)[:, None]
    offsets = (polygon * normals).sum(1) + distance
    out = np.array(
        [np.linalg.solve(normals[[i - 1, i]], offsets[[i - 1, i]]) for i in range(len(polygon))]
    )
    if ((np.roll(out, -1, axis=0) - out) * edges).sum(1).min() <= 0:
        return np.zeros((0, 2))
    return out


def drop_short_edges(polygon: np.ndarray, shortest: float) -> np.ndarray:
    """Replace each edge shorter than ``shortest`` by its middle point."""
    while len(polygon) > 3:
        lengths = np.hypot(*(np.roll(polygon, -1, axis=0) - polygon).T)
        i = int(lengths.argmin())
        if lengths[i] >= shortest:
            break
        j = (i + 1) % len(polygon)
        polygon = polygon.copy()
        polygon[i] = 0.5 * (polygon[i] + polygon[j])
        polygon = np.delete(polygon, j, axis=0)
    return polygon


def round_corners(polygon: np.ndarray, radius: float, segments: int = 6) -> np.ndarray:
    """Replace each corner of a convex polygon by an arc of ``segments + 1`` points."""
    out = []
    n = len(polygon)
    for i in range(n):
        corner = polygon[i]
        to_prev = polygon[i - 1] - corner
        to_next = polygon[(i + 1) % n] - corner
        limit = 0.45 * min(np.hypot(*to_prev), np.hypot(*to_next))
        to_prev, to_next = to_prev / np.hypot(*to_prev), to_next / np.hypot(*to_next)
        half = 0.5 * np.arccos(np.clip(to_prev @ to_next, -1, 1))
        r = min(radius, limit * np.tan(half))
        middle = corner + unit2(to_prev + to_next) * (r / np.sin(half))
        start = np.arctan2(*(corner + to_prev * (r / np.tan(half)) - middle)[::-1])
        sweep = np.pi - 2 * half
        angle = start + np.linspace(0, sweep, segments + 1)
        out.append(middle + r * np.column_stack([np.cos(angle), np.sin(angle)]))
    return np.concatenate(out)


def unit2(v: np.ndarray) -> np.ndarray:
    """A plane vector (2,) at length 1."""
    return v / max(float(np.hypot(*v)), 1e-12)


def contains(polygon: np.ndarray, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Whether points (M, 2) lie inside a convex polygon by at least ``margin``, (M,) bool."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    normals = np.column_stack([-edges[:, 1], edges[:, 0]])
    normals = normals / np.maximum(np.hypot(*normals.T), 1e-12)[:, None]
    distance = points @ normals.T - (polygon * normals).sum(1)
    return distance.min(axis=1) >= margin


def oriented_corners(center: np.ndarray, size: tuple[float, float], yaw: float) -> np.ndarray:
    """Corners of a rectangle with heading ``yaw``, (4, 2) counter-clockwise."""
    c, s = np.cos(yaw), np.sin(yaw)
    local = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (np.asarray(size) / 2)
    return np.asarray(center)[:2] + local @ np.array([[c, s], [-s, c]])


def boxes_overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Separating-axis test of two convex quads (4, 2)."""
    for first, second in ((a, b), (b, a)):
        edges = np.roll(first, -1, axis=0) - first
        for edge in edges:
            normal = np.array([edge[1], -edge[0]])
            if (second @ normal).min() >= (first @ normal).max() - 1e-9:
                return False
    return True
