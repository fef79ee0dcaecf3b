"""A batch of calibrated cameras."""

import torch
from torch import Tensor

from mmcity.utils.checks import check_choice
from mmcity.utils.precision import full_precision

from .base import TensorContainer, as_tensor
from .geometry import se3_from_rt, se3_inverse, transform_points
from .sim3 import Sim3
from .transfer import to_device

#: Projections that the renderer knows.
CAMERA_TYPES = ("pinhole", "ortho", "fisheye")
_FISHEYE_EPS = 1e-7


class Cameras(TensorContainer):
    """Intrinsics, poses and sizes of C cameras with one kind of projection.

    Camera axes are OpenCV's; pixel centres lie at +0.5, so the picture spans
    ``[0, width] x [0, height]``.

    Args:
        Ks (Tensor): ``(C, 3, 3)`` intrinsics in px. For ``ortho``, fx and fy are px per metre.
        viewmats (Tensor): ``(C, 4, 4)`` world to camera.
        widths (int | Tensor): px, one number or ``(C,)``. Kept on the CPU, as ``heights`` are.
        heights (int | Tensor): px, one number or ``(C,)``.
        camera_model (str): ``pinhole``, ``ortho`` or ``fisheye`` (equidistant). Defaults to
            ``pinhole``.
        validate (bool): Check the values. Defaults to True.

    Raises:
        ValueError: If shapes disagree, a value is not finite, a focal length or size is not
            above 0, or a pose is not rigid.
    """

    _row_fields = ("viewmats", "Ks", "widths", "heights")
    _host_fields = ("widths", "heights")
    _shared_fields = ("camera_model",)

    def __init__(
        self, Ks, viewmats, widths, heights, camera_model: str = "pinhole", validate: bool = True
    ) -> None:
        check_choice("camera_model", camera_model, CAMERA_TYPES)
        self.viewmats = as_tensor(viewmats)  # (C, 4, 4)
        self.Ks = as_tensor(Ks, self.viewmats.dtype).to(self.viewmats.device)  # (C, 3, 3)
        if self.viewmats.ndim == 2:
            self.viewmats = self.viewmats[None]
        count = len(self.viewmats)
        if self.Ks.ndim == 2:
            self.Ks = self.Ks[None].expand(count, 3, 3)
        if self.viewmats.shape != (count, 4, 4) or self.Ks.shape != (count, 3, 3):
            raise ValueError(
                f"expected viewmats (C, 4, 4) and Ks (C, 3, 3), got "
                f"{tuple(self.viewmats.shape)} and {tuple(self.Ks.shape)}"
            )
        self.widths = self._sizes("widths", widths, count)
        self.heights = self._sizes("heights", heights, count)
        self.camera_model = camera_model
        if validate:
            self.check()

    def _sizes(self, name: str, value, count: int) -> Tensor:
        value = torch.as_tensor(value, device="cpu")
        if value.is_floating_point() or value.numel() not in (1, count):
            raise ValueError(f"{name}: expected one whole number or {count}, got {value}")
        return value.long().reshape(-1).expand(count)

    def __repr__(self) -> str:
        sizes = {(int(w), int(h)) for w, h in zip(self.widths[:100], self.heights[:100])}
        shown = next(iter(sizes)) if len(sizes) == 1 else f"{len(sizes)} sizes"
        return f"Cameras({len(self)}, {self.camera_model}, {shown}, {self.device})"

    def check(self) -> None:
        """Check all values; see the class for what is refused."""

        def refuse(bad: Tensor, what: str, values: Tensor) -> None:
            if bool(bad.any()):
                row = int(bad.nonzero()[0, 0])
                raise ValueError(
                    f"camera {row} of {len(self)}: expected {what}, got {values[row].tolist()}"
                )

        Ks, views = self.Ks.detach(), self.viewmats.detach()
        refuse(~Ks.isfinite().flatten(1).all(1), "finite intrinsics", Ks)
        refuse(~views.isfinite().flatten(1).all(1), "a finite viewmat", views)
        focals = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1]], -1)
        refuse((focals <= 0).any(1), "focal lengths above 0", focals)
        sizes = torch.stack([self.widths, self.heights], -1)
        refuse((sizes <= 0).any(1), "a size above 0", sizes)
        bottom = views[:, 3] - views.new_tensor([0.0, 0.0, 0.0, 1.0])
        refuse((bottom.abs() > 1e-6).any(1), "a viewmat with last row 0 0 0 1", views)
        rotation = views[:, :3, :3]
        residual = rotation @ rotation.transpose(1, 2) - torch.eye(3).to(rotation)
        skewed = (residual.abs() > 1e-3).flatten(1).any(1) | (torch.linalg.det(rotation) < 0)
        refuse(skewed, "a rotation in the viewmat (orthonormal, determinant 1)", views)

    # ------------------------------------------------------------ poses

    @property
    def cam_to_world(self) -> Tensor:
        """``(C, 4, 4)`` camera poses."""
        return se3_inverse(self.viewmats)

    @property
    @full_precision
    def centers(self) -> Tensor:
        """``(C, 3)`` positions in the world."""
        rotation = self.viewmats[:, :3, :3]
        return -(rotation.transpose(1, 2) @ self.viewmats[:, :3, 3:]).squeeze(-1)

    @property
    def fovs(self) -> Tensor:
        """``(C, 2)`` horizontal and vertical opening angle in radians, were cx, cy central."""
        if self.camera_model == "ortho":
            raise ValueError("camera: expected one with an opening angle, got an ortho camera")
        sizes = torch.stack([self.widths, self.heights], -1).to(self.Ks)
        half = sizes / (2 * torch.stack([self.Ks[:, 0, 0], self.Ks[:, 1, 1]], -1))
        return 2 * (half if self.camera_model == "fisheye" else torch.atan(half))

    def transform(self, sim3: Sim3) -> "Cameras":
        """The same pictures of a world carried by a similarity.

        The focal length of an ortho camera shrinks with the scale.
        """
        sim = sim3.to(self.viewmats)
        Ks = self.Ks
        if self.camera_model == "ortho":
            Ks = torch.cat([Ks[:, :2, :2] / sim.scale, Ks[:, :2, 2:]], -1)
            Ks = torch.cat([Ks, self.Ks[:, 2:]], -2)
        views = se3_inverse(sim.transform_poses(self.cam_to_world))
        return self._rebuilt({"viewmats": views, "Ks": Ks})

    # ------------------------------------------------------------ picture geometry

    def resize(self, widths, heights) -> "Cameras":
        """The same views in other sizes; each axis of K is scaled by the exact ratio."""
        widths = self._sizes("widths", widths, len(self))
        heights = self._sizes("heights", heights, len(self))
        ones = torch.ones(len(self))
        ratio = torch.stack([widths / self.widths, heights / self.heights, ones], -1)
        ratio = to_device(ratio.to(self.Ks.dtype), self.device)
        return self._rebuilt(
            {"Ks": self.Ks * ratio[..., None], "widths": widths, "heights": heights}
        )

    def scale(self, factor: float) -> "Cameras":
        """The same views, sizes times ``factor`` and rounded to whole pixels (at least 1)."""
        if not factor > 0:
            raise ValueError(f"factor: expected a number above 0, got {factor}")
        sizes = [(s * factor).round().long().clamp_min(1) for s in (self.widths, self.heights)]
        return self.resize(*sizes)

    def crop(self, x: int, y: int, width: int, height: int) -> "Cameras":
        """A window of the pictures with its upper left corner at pixel (x, y)."""
        if width <= 0 or height <= 0:
            raise ValueError(f"expected a window of a size above 0, got {width}x{height}")
        Ks = self.Ks.clone()
        Ks[:, 0, 2] -= x
        Ks[:, 1, 2] -= y
        sizes = torch.full_like(self.widths, int(width)), torch.full_like(self.heights, int(height))
        return self._rebuilt({"Ks": Ks, "widths": sizes[0], "heights": sizes[1]})

    def _batched(self, values: Tensor) -> Tensor:
        if values.ndim == 2:
            values = values[None].expand(len(self), *values.shape)
        if values.ndim != 3 or len(values) != len(self):
            raise ValueError(f"expected (N, D) or ({len(self)}, N, D), got {tuple(values.shape)}")
        return values.to(self.viewmats)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and depths of world points.

        Args:
            points (Tensor): ``(N, 3)`` for all cameras or ``(C, N, 3)``.

        Returns:
            tuple[Tensor, Tensor]: Pixels ``(C, N, 2)`` and z-depths ``(C, N)``. A pinhole
            pixel means something only where the depth is above 0.
        """
        local = transform_points(self.viewmats, self._batched(points))
        x, y, z = local.unbind(-1)
        if self.camera_model == "pinhole":
            # Keeps the sign of z and stays finite at z = 0.
            safe = torch.where(z.abs() < 1e-12, torch.full_like(z, 1e-12), z)
            x, y = x / safe, y / safe
        elif self.camera_model == "fisheye":
            radius = torch.hypot(x, y) + _FISHEYE_EPS
            ratio = torch.atan2(radius, z + _FISHEYE_EPS) / radius
            x, y = x * ratio, y * ratio
        flat = torch.stack([x, y, torch.ones_like(x)], -1)
        return (flat @ self.Ks.transpose(1, 2))[..., :2], z

    def _local_rays(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and directions ``(C, N, 3)`` in camera axes; z of a direction is 1."""
        flat = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
        # Without a check of K, which would wait for the device: focal lengths are above 0.
        local = torch.linalg.solve_ex(self.Ks, flat.transpose(1, 2))[0].transpose(1, 2)
        zero = torch.zeros_like(local)
        if self.camera_model == "ortho":
            ahead = torch.cat([zero[..., :2], torch.ones_like(zero[..., :1])], -1)
            return torch.cat([local[..., :2], zero[..., :1]], -1), ahead
        if self.camera_model == "fisheye":
            angle = local[..., :2].norm(dim=-1, keepdim=True)
            ratio = torch.where(angle < 1e-6, torch.ones_like(angle), angle.sin() / angle)
            local = torch.cat([local[..., :2] * ratio, angle.cos()], -1)
        return zero, local

    def unproject(self, pixels: Tensor, depths: Tensor) -> Tensor:
        """World points of pixels with a z-depth; inverse of :meth:`project`.

        Args:
            pixels (Tensor): ``(N, 2)`` or ``(C, N, 2)``.
            depths (Tensor): ``(N,)`` or ``(C, N)`` along the optical axis, also for fisheye.

        Returns:
            Tensor: ``(C, N, 3)``.
        """
        depths = torch.as_tensor(depths).to(self.viewmats)[..., None]
        depths = self._batched(depths)
        origins, directions = self._local_rays(self._batched(pixels))
        local = origins + directions / directions[..., 2:] * depths
        return transform_points(self.cam_to_world, local)

    def rays(self, pixels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """World rays through pixels.

        Args:
            pixels (Tensor, optional): ``(N, 2)`` or ``(C, N, 2)``. Defaults to the centres of
                all pixels, row by row, which needs cameras of one size.

        Returns:
            tuple[Tensor, Tensor]: Origins and unit directions, ``(C, N, 3)`` each.
        """
        pixels = self.pixel_grid().flatten(0, 1) if pixels is None else pixels
        origins, directions = self._local_rays(self._batched(pixels))
        directions = directions / directions.norm(dim=-1, keepdim=True)
        pose = self.cam_to_world
        turn = se3_from_rt(pose[:, :3, :3], torch.zeros_like(pose[:, :3, 3]))
        return transform_points(pose, origins), transform_points(turn, directions)

    def pixel_grid(self) -> Tensor:
        """``(H, W, 2)`` pixel centres (x, y) of cameras of one size."""
        width, height = self.one_size()
        x = torch.arange(width, dtype=self.dtype, device=self.device) + 0.5
        y = torch.arange(height, dtype=self.dtype, device=self.device) + 0.5
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)

    def one_size(self) -> tuple[int, int]:
        """Width and height that all cameras share.

        Raises:
            ValueError: If they differ.
        """
        sizes = sorted(set(zip(self.widths.tolist(), self.heights.tolist())))
        if len(sizes) != 1:
            raise ValueError(f"expected cameras of one size, got {[list(s) for s in sizes[:5]]}")
        return sizes[0]

    def scene_extent(self) -> float:
        """1.1 times the largest distance of a centre from the mean centre (3DGS's extent)."""
        centers = self.centers.double()
        return 1.1 * float((centers - centers.mean(0)).norm(dim=-1).max())
