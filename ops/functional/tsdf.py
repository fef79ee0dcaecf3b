"""Fusion of depth maps into a truncated signed distance volume, dense or in sparse blocks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.functional.mesh import extract_mesh
from mmcity_ops.reference import tsdf as reference

DENSE_LIMIT = 512**3  # voxels of a dense volume
BLOCK_SIZES = (8, 16)
DEFAULT_TRUNC = 5.0  # voxels


def tsdf_integrate(
    tsdf: Tensor,
    weight: Tensor,
    color: Tensor | None,
    depth: Tensor,
    image: Tensor | None,
    K: Tensor,
    viewmat: Tensor,
    *,
    origin: Sequence[float] | Tensor,
    voxel_size: float,
    trunc: float,
    frame_weight: float = 1.0,
    max_depth: float = math.inf,
    mask: Tensor | None = None,
    blocks: Tensor | None = None,
) -> None:
    """Update a volume in place with one depth map, which is moved to the volume's device.

    For each voxel centre x: ``x_c = R x + t``, pixel ``floor(f x_c / z + c)``, ``sdf = depth - z``;
    nothing happens behind the camera, outside the image, where depth <= 0 or > ``max_depth``, or
    where ``sdf < -trunc``. Else ``min(1, sdf / trunc)`` enters the running mean (Curless and
    Levoy, 1996), and the colour of the pixel likewise.

    Args:
        tsdf: Values, start at 1, contiguous [X, Y, Z], or [M, X, Y, Z] with ``blocks``.
        weight: Weights, start at 0, same shape.
        color: Colours, start at 0, [..., 3]. None to leave colour out.
        depth: z-depth in metres, [H, W].
        image: Colours of the pixels, uint8 or float, [H, W, 3]; kept in their range.
        K: Intrinsics in pixels, [3, 3].
        viewmat: World to camera, [4, 4].
        origin: Lower corner of the volume, 3 numbers in metres.
        voxel_size: Edge of a voxel in metres.
        trunc: Truncation distance in metres, typically 4 to 5 voxels.
        frame_weight: Weight of this view. Defaults to 1.0.
        max_depth: Largest depth to use. Defaults to infinity.
        mask: Pixels to use, bool [H, W]. Defaults to None, all.
        blocks: Place of each block in units of blocks, int32 [M, 3]. Defaults to None.

    Raises:
        ValueError: For shapes that do not fit or sizes that are not positive.
        TypeError: For types other than those above.
    """
    dense = blocks is None
    if dense:
        blocks = torch.zeros(1, 3, dtype=torch.int32, device=tsdf.device)
        tsdf, weight = tsdf[None], weight[None]
        color = None if color is None else color[None]
    _check_view(depth, mask, K, viewmat)
    if tsdf.dim() != 4 or weight.shape != tsdf.shape:
        raise ValueError(
            f"weight: expected the shape of tsdf {list(tsdf.shape)}, got {list(weight.shape)}"
        )
    _backend.check_shape("blocks", blocks, (tsdf.shape[0], 3))
    _backend.check_float(tsdf=tsdf, weight=weight, color=color)
    _backend.check_device(tsdf=tsdf, weight=weight, color=color, blocks=blocks)
    for name, value in (("voxel_size", voxel_size), ("trunc", trunc), ("weight", frame_weight)):
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    if image is not None:
        if color is None:
            raise ValueError("image: expected color=True of the volume, got False")
        _backend.check_shape("color", color, (*tsdf.shape, 3))
        _backend.check_shape("image", image, (*depth.shape, 3))
        image = image.to(device=tsdf.device, dtype=tsdf.dtype)
    native = _backend.use_native(tsdf)
    integrate = torch.ops.mmcity.tsdf_integrate_ if native else reference.tsdf_integrate_
    integrate(
        tsdf, weight, tsdf.new_zeros(0) if color is None else color, blocks, image=image,
        depth=depth.to(device=tsdf.device, dtype=torch.float32),
        mask=None if mask is None else mask.to(tsdf.device), K=K.to(tsdf.device),
        viewmat=viewmat.to(tsdf.device), origin=[float(v) for v in origin],
        voxel_size=float(voxel_size), trunc=float(trunc), frame_weight=float(frame_weight),
        max_depth=float(max_depth),
    )  # fmt: skip


def _check_view(depth: Tensor, mask: Tensor | None, K: Tensor, viewmat: Tensor) -> None:
    _backend.check_shape("depth", depth, ("H", "W"))
    _backend.check_shape("K", K, (3, 3))
    _backend.check_shape("viewmat", viewmat, (4, 4))
    if mask is not None:
        _backend.check_shape("mask", mask, tuple(depth.shape))
        _backend.check_dtype("mask", mask, torch.bool)
    if not (torch.isfinite(K).all() and torch.isfinite(viewmat).all()):
        raise ValueError("K, viewmat: expected finite numbers")


class TSDFVolume:
    """Signed distance volume that depth maps are fused into.

    Dense with ``dims``: arrays indexed [x, y, z]. Without ``dims``: blocks of voxels that are
    added where depth maps show surface, so that memory grows with surface and not with volume.

    Args:
        origin: Lower corner (dense) or any fixed corner (sparse) in metres, 3 numbers.
        voxel_size: Edge of a voxel in metres.
        trunc: Truncation distance in metres. Defaults to None, 5 voxels.
        dims: Voxels per axis of a dense volume. Defaults to None, sparse.
        block_size: Voxels per axis of a block, 8 or 16. Defaults to 8.
        color: Whether to fuse colours. Defaults to True.
        device: Device of the volume. Defaults to "cpu".
        dtype: float32 or float64. Defaults to float32.

    Raises:
        ValueError: For sizes that are not positive, or a dense volume beyond 512^3 voxels.
    """

    def __init__(
        self,
        origin: Sequence[float] | Tensor,
        voxel_size: float,
        trunc: float | None = None,
        dims: Sequence[int] | None = None,
        block_size: int = 8,
        color: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.origin = [float(v) for v in origin]
        self.voxel_size = float(voxel_size)
        self.trunc = DEFAULT_TRUNC * self.voxel_size if trunc is None else float(trunc)
        if len(self.origin) != 3 or not self.voxel_size > 0 or not self.trunc > 0:
            raise ValueError(
                "origin, voxel_size, trunc: expected three numbers and two positive numbers, got "
                f"{self.origin}, {voxel_size}, {trunc}"
            )
        self.is_dense = dims is not None
        if self.is_dense:
            shape = [int(d) for d in dims]
            if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > DENSE_LIMIT:
                raise ValueError(
                    f"dims: expected three sizes with a product of at most {DENSE_LIMIT}, got "
                    f"{shape}; leave dims out for sparse blocks"
                )
        elif block_size not in BLOCK_SIZES:
            raise ValueError(f"block_size: expected 8 or 16, got {block_size}")
        self.block_shape = tuple(shape) if self.is_dense else (block_size,) * 3
        self.n_blocks = 0
        options = {"dtype": dtype, "device": device}
        self._tsdf = torch.ones(0, *self.block_shape, **options)
        self._weight = torch.zeros(0, *self.block_shape, **options)
        self._color = torch.zeros(0, *self.block_shape, 3, **options) if color else None
        self._blocks = torch.zeros(0, 3, dtype=torch.int32, device=device)
        if self.is_dense:
            self._append(torch.zeros(1, 3, dtype=torch.int32, device=device))

    @property
    def tsdf(self) -> Tensor:
        """Values, [X, Y, Z] (dense) or [blocks, B, B, B]."""
        return self._tsdf[0] if self.is_dense else self._tsdf[: self.n_blocks]

    @property
    def weight(self) -> Tensor:
        """Weights, same shape as ``tsdf``."""
        return self._weight[0] if self.is_dense else self._weight[: self.n_blocks]

    @property
    def color(self) -> Tensor | None:
        """Colours in the range of the images, [..., 3]."""
        if self._color is None:
            return None
        return self._color[0] if self.is_dense else self._color[: self.n_blocks]

    @property
    def blocks(self) -> Tensor:
        """Place of each block in units of blocks, int32 [blocks, 3]."""
        return self._blocks[: self.n_blocks]

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the volume."""
        tensors = (self._tsdf, self._weight, self._color, self._blocks)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    def allocate(
        self,
        depth: Tensor,
        K: Tensor,
        viewmat: Tensor,
        max_depth: float = math.inf,
        mask: Tensor | None = None,
    ) -> int:
        """Add the blocks that a depth map touches, without fusing it.

        ``integrate`` does this by itself. Calling it for all views first makes every block see
        all views, also those before its first touch: then a sparse volume holds in its blocks
        exactly what a dense one holds.

        Returns:
            Number of blocks added (0 for a dense volume).
        """
        if self.is_dense:
            return 0
        _check_view(depth, mask, K, viewmat)
        device = self._tsdf.device
        native = _backend.use_native(self._tsdf)
        find = torch.ops.mmcity.tsdf_touched_blocks if native else reference.tsdf_touched_blocks
        touched = find(
            depth.to(device, torch.float32), None if mask is None else mask.to(device),
            K.to(device), viewmat.to(device), origin=self.origin, voxel_size=self.voxel_size,
            trunc=self.trunc, max_depth=float(max_depth), block_size=self.block_shape[0],
        )  # fmt: skip
        fresh = touched[~torch.isin(_block_keys(touched), _block_keys(self.blocks))]
        self._append(fresh)
        return len(fresh)

    def integrate(
        self,
        depth: Tensor,
        color: Tensor | None,
        K: Tensor,
        viewmat: Tensor,
        weight: float = 1.0,
        max_depth: float = math.inf,
        mask: Tensor | None = None,
    ) -> None:
        """Fuse one view; see :func:`tsdf_integrate` for the arguments."""
        self.allocate(depth, K, viewmat, max_depth, mask)
        tsdf_integrate(
            self._tsdf[: self.n_blocks],
            self._weight[: self.n_blocks],
            None if self._color is None else self._color[: self.n_blocks],
            depth,
            color,
            K,
            viewmat,
            origin=self.origin,
            voxel_size=self.voxel_size,
            trunc=self.trunc,
            frame_weight=weight,
            max_depth=max_depth,
            mask=mask,
            blocks=self.blocks,
        )

    def extract_mesh(
        self, level: float = 0.0, min_weight: float = 1.0, method: str = "native"
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Surface of the volume; see :func:`extract_mesh`."""
        return extract_mesh(
            self._tsdf[: self.n_blocks],
            self._weight[: self.n_blocks],
            None if self._color is None else self._color[: self.n_blocks],
            self.blocks,
            origin=self.origin,
            voxel_size=self.voxel_size,
            level=level,
            min_weight=min_weight,
            method=method,
        )

    def _append(self, blocks: Tensor) -> None:
        """Add blocks; storage grows by half at a time, so that many small steps stay cheap."""
        total = self.n_blocks + len(blocks)
        if total > len(self._tsdf):
            capacity = total if self.n_blocks == 0 else max(total, len(self._tsdf) * 3 // 2)
            self._tsdf = _grown(self._tsdf, capacity, 1)
            self._weight = _grown(self._weight, capacity, 0)
            self._blocks = _grown(self._blocks, capacity, 0)
            if self._color is not None:
                self._color = _grown(self._color, capacity, 0)
        self._blocks[self.n_blocks : total] = blocks
        self.n_blocks = total


def _grown(tensor: Tensor, capacity: int, value: float) -> Tensor:
    out = tensor.new_full((capacity, *tensor.shape[1:]), value)
    out[: len(tensor)] = tensor
    return out


def _block_keys(blocks: Tensor) -> Tensor:
    """One int64 per block; coordinates lie within +-2^20."""
    shifted = blocks.long() + (1 << 20)
    return (shifted[:, 0] << 42) | (shifted[:, 1] << 21) | shifted[:, 2]


@_backend.on_native_load
def _register() -> None:
    @torch.library.register_fake("mmcity::tsdf_integrate_")
    def _fake_integrate(tsdf, weight, color, *others):
        return None

    @torch.library.register_fake("mmcity::tsdf_touched_blocks")
    def _fake_touched(depth, *others):
        m = torch.library.get_ctx().new_dynamic_size()
        return depth.new_empty((m, 3), dtype=torch.int32)
