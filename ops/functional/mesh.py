"""Meshes of signed distance volumes, and their clean-up."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.reference import marching_cubes as reference

METHODS = ("native", "skimage")


def extract_mesh(
    tsdf: Tensor,
    weight: Tensor,
    color: Tensor | None = None,
    blocks: Tensor | None = None,
    *,
    origin: Sequence[float] | Tensor,
    voxel_size: float,
    level: float = 0.0,
    min_weight: float = 1.0,
    method: str = "native",
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Triangles of the level set by marching cubes (Lorensen and Cline, 1987).

    Only cells whose eight corners have at least ``min_weight`` are meshed. Vertices on the same
    voxel edge are one vertex, also across blocks. Triangles are counter-clockwise seen from the
    side of larger values (free space).

    Args:
        tsdf: Values, [X, Y, Z], or [M, X, Y, Z] with ``blocks``.
        weight: Weights, same shape.
        color: Colours, [..., 3]. Defaults to None.
        blocks: Place of each block in units of blocks, int32 [M, 3]. Defaults to None.
        origin: Lower corner of block (0, 0, 0) in metres, 3 numbers.
        voxel_size: Edge of a voxel in metres.
        level: Value of the surface. Defaults to 0.0.
        min_weight: Smallest weight of a voxel to use. Defaults to 1.0.
        method: "native", or "skimage" for one dense volume (needs scikit-image; for comparison).
            Defaults to "native".

    Returns:
        Vertices in metres [V, 3], faces int32 [F, 3], colours [V, 3] or None.

    Raises:
        ValueError: For shapes that do not fit, or "skimage" with several blocks.
        ImportError: For "skimage" without scikit-image.
    """
    _backend.check_choice("method", method, METHODS)
    if blocks is None:
        blocks = torch.zeros(1, 3, dtype=torch.int32, device=tsdf.device)
        tsdf, weight = tsdf[None], weight[None]
        color = None if color is None else color[None]
    _backend.check_shape("tsdf", tsdf, ("M", "X", "Y", "Z"))
    _backend.check_shape("weight", weight, tuple(tsdf.shape))
    _backend.check_shape("blocks", blocks, (tsdf.shape[0], 3))
    _backend.check_dtype("blocks", blocks, torch.int32)
    _backend.check_float(tsdf=tsdf, weight=weight, color=color)
    _backend.check_device(tsdf=tsdf, weight=weight, color=color, blocks=blocks)
    if color is not None:
        _backend.check_shape("color", color, (*tsdf.shape, 3))
    settings = dict(voxel_size=float(voxel_size), level=float(level), min_weight=float(min_weight))
    settings["origin"] = [float(v) for v in origin]
    if method == "skimage":
        mesh = _with_skimage(tsdf, weight, color, blocks, **settings)
        return tuple(None if part is None else part.to(tsdf.device) for part in mesh)
    tensors = (tsdf, weight, tsdf.new_zeros(0) if color is None else color, blocks)
    native = _backend.use_native(tsdf)
    run = torch.ops.mmcity.marching_cubes if native else reference.marching_cubes
    with tsdf.device:  # of what the reference makes
        table = reference.triangle_table().to(tsdf.device)
        vertices, faces, colors = run(*(t.detach() for t in tensors), table, **settings)
    return vertices, faces, None if color is None else colors


def _with_skimage(
    tsdf: Tensor,
    weight: Tensor,
    color: Tensor | None,
    blocks: Tensor,
    origin: list[float],
    voxel_size: float,
    level: float,
    min_weight: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    if len(blocks) != 1:
        raise ValueError(f"method='skimage': expected one dense volume, got {len(blocks)} blocks")
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ImportError(
            "method='skimage': expected scikit-image, found none: install it, or use 'native'"
        ) from error
    values = tsdf[0].detach().cpu()
    known = ((weight[0] >= min_weight) & tsdf[0].isfinite()).cpu()
    cells = torch.zeros_like(known)  # scikit-image asks the last corner of each cell
    if min(known.shape) > 1:
        corners = known.unfold(0, 2, 1).unfold(1, 2, 1).unfold(2, 2, 1)
        cells[1:, 1:, 1:] = corners.flatten(3).all(-1)
    faces = torch.zeros(0, 3, dtype=torch.int32)
    places = values.new_zeros(0, 3)
    if cells.any() and values[known].min() < level < values[known].max():
        found = marching_cubes(values.numpy(), level, mask=cells.numpy())
        places = torch.from_numpy(found[0].copy()).to(values.dtype)
        faces = torch.from_numpy(found[1].copy()).to(torch.int32)
    colors = None
    if color is not None:
        colors = _interpolate(color[0].detach().cpu(), places)
    start = torch.tensor(origin, dtype=values.dtype) + blocks[0].cpu() * torch.tensor(values.shape)
    return start + (places + 0.5) * voxel_size, faces, colors


def _interpolate(color: Tensor, places: Tensor) -> Tensor:
    """Linear interpolation of [X, Y, Z, 3] at points that lie on voxel edges."""
    first = places.floor().long()
    last = torch.minimum(places.ceil().long(), torch.tensor(color.shape[:3]) - 1)
    share = (places - first).sum(-1, keepdim=True)
    low, high = (color[tuple(index.unbind(-1))] for index in (first, last))
    return low * (1 - share) + high * share


def keep_largest_clusters(
    vertices: Tensor, faces: Tensor, colors: Tensor | None = None, n_clusters: int = 50
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keep the connected parts of a mesh that have the most triangles.

    Parts are connected by shared vertices. Vertices that no triangle uses any more are dropped;
    the order of the others and of the triangles stays.

    Args:
        vertices: [V, 3].
        faces: int32 or int64 [F, 3].
        colors: [V, 3]. Defaults to None.
        n_clusters: Number of parts to keep. Defaults to 50.

    Returns:
        Vertices, faces and colours of what is kept.

    Raises:
        ValueError: For a wrong shape or ``n_clusters`` < 1.
    """
    _backend.check_shape("vertices", vertices, ("V", 3))
    _backend.check_shape("faces", faces, ("F", 3))
    _backend.check_device(vertices=vertices, faces=faces, colors=colors)
    if n_clusters < 1:
        raise ValueError(f"n_clusters: expected at least 1, got {n_clusters}")
    if len(faces) == 0:
        empty = None if colors is None else colors[:0]
        return vertices[:0], faces, empty
    of_face = _vertex_clusters(faces.long(), len(vertices))[faces[:, 0].long()]
    roots, of_face = torch.unique(of_face, return_inverse=True)
    sizes = torch.bincount(of_face, minlength=len(roots))
    largest = torch.sort(sizes, descending=True, stable=True).indices[:n_clusters]
    faces = faces[torch.isin(of_face, largest)]
    used = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    used[faces.long()] = True
    number = (used.cumsum(0) - 1).to(faces.dtype)
    return vertices[used], number[faces.long()], None if colors is None else colors[used]


def _vertex_clusters(faces: Tensor, n_vertices: int) -> Tensor:
    """Smallest vertex of the part that each vertex belongs to, by hooking and pointer jumping."""
    root = torch.arange(n_vertices, device=faces.device)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]]])
    while True:
        a, b = root[edges[:, 0]], root[edges[:, 1]]
        open_edges = a != b
        if not bool(open_edges.any()):
            return root
        edges, a, b = edges[open_edges], a[open_edges], b[open_edges]
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        root = root.scatter_reduce(0, high, low, "amin")
        while True:
            jumped = root[root]
            if torch.equal(jumped, root):
                break
            root = jumped


@_backend.on_native_load
def _register() -> None:
    @torch.library.register_fake("mmcity::marching_cubes")
    def _fake(tsdf, weight, color, blocks, table, origin, voxel_size, level, min_weight):
        ctx = torch.library.get_ctx()
        v, f = ctx.new_dynamic_size(), ctx.new_dynamic_size()
        vertices, faces = tsdf.new_empty((v, 3)), tsdf.new_empty((f, 3), dtype=torch.int32)
        return vertices, faces, tsdf.new_empty((v if color.numel() else 0, 3))
