"""Marching cubes: the table, worked out from the cube itself, and a torch version."""

import functools
import itertools

import torch
from torch import Tensor

# Corner c of a cell lies at (x, y, z) = bits 0, 1, 2 of c. Edge axis * 8 + c starts at corner c
# and goes along an axis (whose bit is 0 in c). A case is the set of corners inside (bits).
FACES = (  # corners of the six faces, counter-clockwise seen from outside
    (0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6),
)  # fmt: skip


def _edge(a: int, b: int) -> int:
    axis = {1: 0, 2: 1, 4: 2}[a ^ b]
    return axis * 8 + min(a, b)


def _edge_faces(edge: int) -> set[int]:
    corners = {edge % 8, edge % 8 | 1 << edge // 8}
    return {index for index, face in enumerate(FACES) if corners <= set(face)}


def _loops(case: int) -> list[list[int]]:
    """Closed polygons of cut edges, seen counter-clockwise from outside (values above the level).

    On every face each run of inside corners is cut off by one segment, so two diagonal inside
    corners stay apart. The rule looks at the face alone: neighbouring cells agree, and the
    surface has no cracks.
    """
    follows: dict[int, int] = {}
    for face in FACES:
        inside = [case >> corner & 1 for corner in face]
        for i in range(4):
            if inside[i] and not inside[i - 1]:  # a run starts
                j = i
                while inside[(j + 1) % 4]:
                    j += 1
                entry = _edge(face[i - 1], face[i])
                leave = _edge(face[j % 4], face[(j + 1) % 4])
                follows[entry] = leave
    loops = []
    while follows:
        start = min(follows)
        loop, current = [start], follows.pop(start)
        while current != start:
            loop.append(current)
            current = follows.pop(current)
        loops.append(loop)
    return loops


def _fan(loop: list[int]) -> list[int]:
    """Triangles around the corner of the polygon with the fewest diagonals inside a face.

    A diagonal inside a face of the cell could coincide with an edge of the neighbouring cell.
    """

    def diagonals_in_faces(apex: int) -> int:
        rotated = loop[apex:] + loop[:apex]
        return sum(bool(_edge_faces(rotated[0]) & _edge_faces(e)) for e in rotated[2:-1])

    apex = min(range(len(loop)), key=diagonals_in_faces)
    loop = loop[apex:] + loop[:apex]
    triangles = [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return list(itertools.chain.from_iterable(triangles))


@functools.cache
def triangle_table() -> Tensor:
    """Edges of the triangles of each case, int32 [256, 3 T], -1 where unused."""
    rows = [[edge for loop in _loops(case) for edge in _fan(loop)] for case in range(256)]
    width = max(map(len, rows))
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows], dtype=torch.int32)


def marching_cubes(
    tsdf: Tensor,
    weight: Tensor,
    color: Tensor,
    blocks: Tensor,
    table: Tensor,
    origin: list[float],
    voxel_size: float,
    level: float,
    min_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments and results of the native operator; faces come in another order."""
    dims = torch.tensor(tsdf.shape[1:])
    count = int(dims.prod())
    voxel = _with_next_blocks(tsdf, blocks)  # (M, X+1, Y+1, Z+1) index of a voxel, or -1
    known = torch.cat([(weight >= min_weight).flatten() & tsdf.isfinite().flatten(),
                       torch.zeros(1, dtype=torch.bool)])  # fmt: skip
    inside = torch.cat([(tsdf < level).flatten(), torch.zeros(1, dtype=torch.bool)])
    corners = torch.stack([_corner(voxel, c) for c in range(8)], -1)  # (M, X, Y, Z, 8)
    case = (inside[corners] << torch.arange(8)).sum(-1)
    case = torch.where(known[corners].all(-1), case, torch.zeros_like(case))
    cell = ((case > 0) & (case < 255)).nonzero(as_tuple=True)
    edges = table[case[cell]].long()  # (cells, 3 T)
    used = edges >= 0
    owner = corners[cell].gather(1, edges.clamp(min=0) % 8)
    keys = (owner * 3 + edges.clamp(min=0) // 8)[used]
    unique, inverse = torch.unique(keys, return_inverse=True)
    faces = inverse.reshape(-1, 3).to(torch.int32)

    first, axis = unique // 3, unique % 3
    block, local = first // count, first % count
    place = torch.stack(
        [local // (dims[1] * dims[2]), local // dims[2] % dims[1], local % dims[2]], -1
    )
    ahead = place + torch.eye(3, dtype=torch.long)[axis]
    second = voxel[(block, *ahead.unbind(-1))]
    low, high = tsdf.flatten()[first].double(), tsdf.flatten()[second].double()
    share = ((level - low) / (high - low))[:, None]
    at = blocks[block] * dims + place + 0.5 + share * torch.eye(3)[axis]
    vertices = torch.tensor(origin, dtype=torch.float64) + at * voxel_size
    colors = color.new_zeros(0, 3)
    if color.numel():
        flat = color.reshape(-1, 3).double()
        colors = (flat[first] * (1 - share) + flat[second] * share).to(color.dtype)
    return vertices.to(tsdf.dtype), faces, colors


def _corner(voxel: Tensor, corner: int) -> Tensor:
    x, y, z = corner & 1, corner >> 1 & 1, corner >> 2
    _, nx, ny, nz = voxel.shape
    return voxel[:, x : nx - 1 + x, y : ny - 1 + y, z : nz - 1 + z]


def _with_next_blocks(tsdf: Tensor, blocks: Tensor) -> Tensor:
    """Flat voxel indices of each block and of the first layer of the blocks behind it."""
    n, *dims = tsdf.shape
    own = torch.arange(tsdf.numel()).reshape(tsdf.shape)
    out = torch.full((n, *(d + 1 for d in dims)), -1)
    slots = {tuple(block): slot for slot, block in enumerate(blocks.tolist())}
    for offset in itertools.product((0, 1), repeat=3):
        target = tuple(slice(d, d + 1) if o else slice(0, d) for o, d in zip(offset, dims))
        source = tuple(slice(0, 1) if o else slice(None) for o in offset)
        for slot, block in enumerate(blocks.tolist()):
            other = slots.get(tuple(b + o for b, o in zip(block, offset)))
            if other is not None:
                out[(slot, *target)] = own[(other, *source)]
    return out
