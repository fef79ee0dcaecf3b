"""Orthophotos and height models of scenes of Gaussians."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from rich.progress import track

from mmcity.models.renderers import SplatRenderer
from mmcity.structures import Cameras, GaussianLodTree, Gaussians, SceneFrame, Sim3
from mmcity.structures.bounds import robust_bounds
from mmcity.structures.io.gaussian_format import color_coefficients
from mmcity.structures.spherical_harmonics import SH_C0, sh_degree_of
from mmcity.structures.upright import turn_upright
from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError
from mmcity.utils.device import device_at_hand
from mmcity.utils.fileio import atomic_path, scratch_folder
from mmcity_ops import spherical_harmonics

from .geotiff import Tag, geotiff_tags, is_placed, write_world_file
from .layers import read_layers

#: px of the longer side, where no size of a pixel is given.
_USUAL_SIZE = 2000
#: Edge in px of what is rendered at a time; a multiple of 16, as TIFF wants it.
_TILE = 512
_AXES = {"z": (0.0, 0.0, 1.0), "y": (0.0, 1.0, 0.0), "-y": (0.0, -1.0, 0.0)}
#: Height of a pixel without a surface, and the tag that says so.
NO_HEIGHT = -9999.0
_GDAL_NODATA = (42113, 2, 0, f"{NO_HEIGHT:g}", True)
_SOLID = 0.5
#: Height above most of a scene to which towers may reach and floaters are cut off, of its width.
_ROOM_ABOVE = 0.25
#: Smallest size in bytes from which a file may need offsets of 64 bits.
_LARGE = 3 << 30


@dataclass(frozen=True)
class OrthoPhoto:
    """An orthophoto that was written.

    Attributes:
        path: RGBA GeoTIFF, or TIFF with a world file beside it.
        heights: Height model of the same pixels, in float32; None if none was asked for.
        size: Width and height in px.
        pixel_size: World units.
        extent: West, south, east and north edge in world units.
        crs: Of the world, empty where it is not known.
    """

    path: Path
    heights: Path | None
    size: tuple[int, int]
    pixel_size: float
    extent: tuple[float, float, float, float]
    crs: str

    def __str__(self) -> str:
        edges = ", ".join(f"{edge:.10g}" for edge in self.extent)
        files = f"{self.path}" + (f", {self.heights}" if self.heights else "")
        return (
            f"{files}: {self.size[0]}x{self.size[1]} px of {self.pixel_size:.4g}, extent {edges} "
            f"({self.crs or 'no reference system: world file beside it'})"
        )


@torch.no_grad()
def render_ortho(
    scene: str | os.PathLike,
    out: str | os.PathLike = "ortho.tif",
    *,
    config: str | os.PathLike | None = None,
    pixel_size: float | None = None,
    extent: tuple[float, float, float, float] | None = None,
    max_height: float | None = None,
    heights: bool = True,
    up: str = "z",
    device: str | None = None,
) -> OrthoPhoto:
    """Render a scene straight from above, and write picture and heights.

    North is up, pixels are square, and what no Gaussian covers is transparent. Colours are those
    that a viewer far above sees. The height of a pixel is that at which a ray from above has lost
    half of its light. Tiles are rendered one at a time, so that areas may be large.

    Args:
        scene: Gaussians in any format, or a checkpoint with its ``config``.
        out: ``.tif``; the heights go to ``NAME_dsm.tif`` beside it. With a known reference system
            these are GeoTIFFs, else ``.tfw`` files lie beside them. Defaults to ``ortho.tif``.
        config: Config of a checkpoint. Defaults to None.
        pixel_size: World units. Defaults to None: 2000 px on the longer side.
        extent: West, south, east and north edge in world units (of the reference system where
            there is one). Defaults to None: what the scene shows, without strays.
        max_height: What is higher is cut off, world units. Defaults to None: above most of the
            scene by its height or a quarter of its width.
        heights: Also write the height model. Defaults to True.
        up: Axis of the scene that points up, ``z``, ``y`` or ``-y``, where it has no reference
            system. Defaults to ``z``.
        device: Defaults to CUDA where it is, else the CPU.

    Raises:
        UserError: If the scene holds no Gaussians, or a size or extent is none.
    """
    out = Path(out)
    check_choice("up", up, tuple(_AXES))
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"{out}: expected a name that ends in .tif, got {out.suffix or 'none'}")
    gaussians, frame = _north_up(_read(scene, config), up)
    origin = frame.matrix[:3, 3]  # float64; positions are about it
    bounds = robust_bounds(gaussians.means, gaussians.opacities).numpy()
    west, south, east, north = extent or (bounds[:, :2] + origin[:2]).ravel()
    if not (west < east and south < north):
        raise UserError(f"--extent: expected WEST < EAST and SOUTH < NORTH, got {extent}")
    step = max(east - west, north - south) / _USUAL_SIZE if pixel_size is None else pixel_size
    if not (step > 0 and math.isfinite(step)):
        raise UserError(f"--pixel-size: expected a number above 0, got {pixel_size}")
    width, height = (max(math.ceil(e / step - 1e-6), 1) for e in (east - west, north - south))
    room = max(bounds[1, 2] - bounds[0, 2], _ROOM_ABOVE * (bounds[1, :2] - bounds[0, :2]).max())
    top = bounds[1, 2] + room if max_height is None else max_height - origin[2]
    corner = (west - origin[0], north - origin[1], top)
    view = _ViewFromAbove(gaussians, corner, step, (width, height), device)
    dsm = out.with_name(f"{out.name.removesuffix(out.suffix)}_dsm{out.suffix}")
    tags = geotiff_tags(frame, west, north, step)
    with scratch_folder(out) as work:
        store = np.lib.format.open_memmap(
            work / "heights.npy", "w+", np.float32, (height if heights else 1, width)
        )
        _write(out, view.colors(store if heights else None), (height, width, 4), tags)
        if heights:
            store[store != NO_HEIGHT] += origin[2]
            _write(dsm, _tiles_of(store), store.shape, [*tags, _GDAL_NODATA])
    files = [out, dsm] if heights else [out]
    if not is_placed(frame):
        for file in files:
            write_world_file(file, west, north, step)
    edges = (west, north - height * step, west + width * step, north)
    found = tuple(float(edge) for edge in edges)
    return OrthoPhoto(out, dsm if heights else None, (width, height), step, found, frame.crs)


def _read(scene: str | os.PathLike, config: str | os.PathLike | None) -> Gaussians:
    layers = [layer for layer in read_layers([scene], config) if layer.kind == "gaussians"]
    if not layers or not len(layers[0].data):
        raise UserError(f"{scene}: expected a scene of Gaussians, got none")
    data = layers[0].data
    return data.gather(data.leaves) if isinstance(data, GaussianLodTree) else data


def _north_up(gaussians: Gaussians, up: str) -> tuple[Gaussians, SceneFrame]:
    """A scene on the axes of its world, about a point of it, and the frame that says where."""
    frame = gaussians.frame
    if frame is None or frame.is_identity:
        turn = turn_upright(torch.tensor(_AXES[up], dtype=torch.float64))
        return gaussians.transform(Sim3(1.0, turn)), SceneFrame()
    middle = frame.scene_to_world(gaussians.means.median(0).values)
    upright = SceneFrame(frame.crs, tuple(np.round(middle)), frame.lla, unit=frame.unit)
    return gaussians.to_frame(upright), upright


def _seen_from_above(gaussians: Gaussians) -> torch.Tensor:
    """``(N, 1, 3)`` constant coefficients of the colours that a viewer far above sees."""
    sh = color_coefficients(gaussians, "orthophoto")
    if sh.shape[1] == 1:
        return sh
    below = gaussians.means.new_tensor([0.0, 0.0, -1.0]).expand_as(gaussians.means)
    eye = torch.eye(4).to(gaussians.means)[None]
    degree = sh_degree_of(sh.shape[1])
    return (spherical_harmonics(degree, below, eye, sh) / SH_C0)[0, :, None]


class _ViewFromAbove:
    """Renders tiles of a scene straight from above.

    Args:
        gaussians: With +y north and +z up.
        corner: West, north and top of what is seen.
        step: Size of a pixel.
        size: Width and height in px.
        device: See :func:`device_at_hand`.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        corner: tuple[float, float, float],
        step: float,
        size: tuple[int, int],
        device: str | None,
    ) -> None:
        g = gaussians.detach().to(device_at_hand(device)).to(torch.float32)
        self.corner, self.step, self.size = corner, step, size
        sh = _seen_from_above(g)
        self.scene = (g.means, g.quats, g.scales, g.opacities, (sh, sh[:, :0]))
        self.renderer = SplatRenderer(depth_mode="median").to(g.means.device)

    def colors(self, heights: np.ndarray | None) -> Iterator[np.ndarray]:
        """RGBA tiles, row by row; the heights are put into an array (H, W), if there is one."""
        width, height = self.size
        places = [(y, x) for y in range(0, height, _TILE) for x in range(0, width, _TILE)]
        for y, x in track(places, "Rendering tiles"):
            view = self.renderer(
                *self.scene, self._camera(x, y), sh_degree=0, with_geometry=heights is not None
            )
            alpha = view["alpha"][0]
            color = (view["rgb"][0] / alpha.clamp_min(1e-6)).clamp(0, 1)
            pixels = torch.cat([color, alpha.clamp(0, 1)], -1)
            if heights is not None:
                depth = view["depth"][0, ..., 0]
                found = torch.where(depth > 0, self.corner[2] - depth, NO_HEIGHT).cpu().numpy()
                part = heights[y : y + _TILE, x : x + _TILE]
                part[:] = found[: part.shape[0], : part.shape[1]]
            yield (pixels * 255).round().byte().cpu().numpy()

    def _camera(self, x: int, y: int) -> Cameras:
        """Camera above the upper left corner of a tile, looking down with north up."""
        west, north, top = self.corner
        viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        viewmat[:3, 3] = torch.tensor([-(west + x * self.step), north - y * self.step, top])
        K = torch.diag(torch.tensor([1 / self.step, 1 / self.step, 1.0]))
        camera = Cameras(K, viewmat, _TILE, _TILE, "ortho")
        return camera.to(self.scene[0].device)


def _tiles_of(values: np.ndarray) -> Iterator[np.ndarray]:
    height, width = values.shape
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            tile = np.full((_TILE, _TILE), NO_HEIGHT, np.float32)
            part = values[y : y + _TILE, x : x + _TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _write(
    path: Path, tiles: Iterator[np.ndarray], shape: tuple[int, ...], tags: list[Tag]
) -> None:
    """Write a tiled TIFF, RGBA or heights, whole or not at all."""
    is_color = len(shape) == 3
    kind = np.uint8 if is_color else np.float32
    size = math.prod(shape) * np.dtype(kind).itemsize
    with (
        atomic_path(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=size > _LARGE) as file,
    ):
        file.write(
            tiles,
            shape=shape,
            dtype=kind,
            tile=(_TILE, _TILE),
            photometric="rgb" if is_color else "minisblack",
            extrasamples=["unassalpha"] if is_color else None,
            compression="zlib",
            metadata=None,
            extratags=tags,
        )
