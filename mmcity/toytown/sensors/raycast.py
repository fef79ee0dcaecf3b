"""Closest-hit and shadow queries against triangle meshes."""

import warnings

import numpy as np

from mmcity.utils.checks import check_choice


class _EmbreeCaster:
    """Embree through embreex; each group of faces is a geometry of its own."""

    def __init__(self, groups: list[tuple[np.ndarray, np.ndarray]]) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene(robust=True)
        self._keep = []
        starts = [0]
        for vertices, faces in groups:
            v = np.ascontiguousarray(vertices, dtype=np.float32)
            f = np.ascontiguousarray(faces, dtype=np.int32)
            self._keep.append(TriangleMesh(self._scene, v, f))
            starts.append(starts[-1] + len(faces))
        self._starts = np.asarray(starts, dtype=np.int32)

    def hit(self, origins: np.ndarray, directions: np.ndarray) -> tuple:
        result = self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
            output=True,
        )
        face = result["primID"].copy()
        missed = face < 0
        geometry = np.where(missed, 0, result["geomID"])
        face += self._starts[geometry]
        face[missed] = -1
        distance = np.where(missed, np.float32(np.inf), result["tfar"])
        return face, distance, result["u"], result["v"]

    def occluded(
        self, origins: np.ndarray, directions: np.ndarray, limit: np.ndarray
    ) -> np.ndarray:
        limit = np.ascontiguousarray(np.minimum(limit, 1e30), dtype=np.float32)
        found = self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
            dists=limit,
            query="OCCLUDED",
        )
        return found >= 0


class _BvhCaster:
    """Bounding-volume hierarchy in numpy; some fifty times slower than Embree."""

    LEAF = 8

    def __init__(self, groups: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self._triangles = np.concatenate(
            [np.asarray(v, dtype=np.float64)[np.asarray(f)] for v, f in groups]
        )
        self._build()

    def _build(self) -> None:
        low, high = self._triangles.min(1), self._triangles.max(1)
        middle = 0.5 * (low + high)
        order = np.arange(len(middle))
        nodes_low, nodes_high, child, first, count = [], [], [], [], []
        todo = [(0, len(order), -1)]
        while todo:
            a, b, parent = todo.pop()
            rows = order[a:b]
            index = len(child)
            if parent >= 0:
                child[parent].append(index)
            nodes_low.append(low[rows].min(0))
            nodes_high.append(high[rows].max(0))
            child.append([])
            first.append(a)
            count.append(b - a if b - a <= self.LEAF else 0)
            if b - a > self.LEAF:
                axis = int(np.ptp(middle[rows], axis=0).argmax())
                half = (b - a) // 2
                order[a:b] = rows[np.argpartition(middle[rows, axis], half)]
                todo += [(a, a + half, index), (a + half, b, index)]
        self._low, self._high = np.array(nodes_low), np.array(nodes_high)
        self._child = np.array([c or [-1, -1] for c in child])
        self._first, self._count, self._order = np.array(first), np.array(count), order

    def hit(self, origins: np.ndarray, directions: np.ndarray) -> tuple:
        return self._trace(origins, directions, np.full(len(origins), np.inf))

    def occluded(
        self, origins: np.ndarray, directions: np.ndarray, limit: np.ndarray
    ) -> np.ndarray:
        return self._trace(origins, directions, np.asarray(limit, dtype=np.float64))[0] >= 0

    def _trace(self, origins: np.ndarray, directions: np.ndarray, best: np.ndarray) -> tuple:
        o, d = np.asarray(origins, dtype=np.float64), np.asarray(directions, dtype=np.float64)
        best = best.copy()
        face = np.full(len(o), -1, dtype=np.int32)
        uv = np.zeros((2, len(o)), dtype=np.float32)
        with np.errstate(divide="ignore"):
            inverse = 1.0 / np.where(np.abs(d) < 1e-12, 1e-12, d)
        rays, nodes = np.arange(len(o)), np.zeros(len(o), dtype=np.int64)
        while len(rays):
            t0 = (self._low[nodes] - o[rays]) * inverse[rays]
            t1 = (self._high[nodes] - o[rays]) * inverse[rays]
            near = np.minimum(t0, t1).max(1)
            far = np.maximum(t0, t1).min(1)
            alive = (far >= np.maximum(near, 0)) & (near < best[rays])
            rays, nodes = rays[alive], nodes[alive]
            leaf = self._count[nodes] > 0
            for k in range(self.LEAF):
                rows = np.flatnonzero(leaf & (self._count[nodes] > k))
                if len(rows):
                    ray = rays[rows]
                    self._test(o, d, ray, self._order[self._first[nodes[rows]] + k], best, face, uv)
            rays, nodes = np.repeat(rays[~leaf], 2), self._child[nodes[~leaf]].reshape(-1)
        return face, np.where(face < 0, np.inf, best).astype(np.float32), uv[0], uv[1]

    def _test(self, o, d, ray, triangle, best, face, uv) -> None:
        """Moeller and Trumbore's test of ray-triangle pairs; a ray may come up twice."""
        a, b, c = self._triangles[triangle].transpose(1, 0, 2)
        e1, e2 = b - a, c - a
        p = np.cross(d[ray], e2)
        det = (e1 * p).sum(1)
        safe = np.where(np.abs(det) < 1e-14, 1e-14, det)
        s = o[ray] - a
        u = (s * p).sum(1) / safe
        q = np.cross(s, e1)
        v = (d[ray] * q).sum(1) / safe
        t = (e2 * q).sum(1) / safe
        good = (np.abs(det) >= 1e-14) & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 0)
        rows = np.flatnonzero(good & (t < best[ray]))
        rows = rows[np.argsort(-t[rows], kind="stable")]  # the closest is written last
        best[ray[rows]] = t[rows]
        face[ray[rows]] = triangle[rows]
        uv[0, ray[rows]], uv[1, ray[rows]] = u[rows], v[rows]


#: Casters take origins and unit directions (N, 3) of any float type. ``hit`` returns of the closest
#: hit the face (N,) int32, -1 for none, the distance (N,) float32, inf for none, and barycentric
#: u, v (N,) float32 of the face's second and third vertex; ``occluded`` whether anything lies
#: within ``limit`` (N,) metres, (N,) bool.
RayCaster = _EmbreeCaster | _BvhCaster

_state = {"has_warned": False}


def make_caster(groups: list[tuple[np.ndarray, np.ndarray]], backend: str = "auto") -> RayCaster:
    """Build a ray caster over groups of (vertices, faces); faces are numbered through.

    Args:
        groups: One geometry each.
        backend: ``'auto'`` takes Embree and falls back to numpy with one warning where
            embreex is not installed; ``'embree'`` and ``'numpy'`` insist.

    Raises:
        ImportError: If ``'embree'`` is asked for and embreex is missing.
        ValueError: If the backend is unknown.
    """
    check_choice("backend", backend, ("auto", "embree", "numpy"))
    if backend == "numpy":
        return _BvhCaster(groups)
    try:
        return _EmbreeCaster(groups)
    except ImportError:
        if backend == "embree":
            raise
        if not _state["has_warned"]:
            warnings.warn(
                "embreex is not installed: toytown casts its rays in numpy, which is some fifty "
                "times slower (pip install embreex)",
                stacklevel=2,
            )
            _state["has_warned"] = True
        return _BvhCaster(groups)
