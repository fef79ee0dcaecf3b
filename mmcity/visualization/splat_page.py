"""Gaussians as one HTML file: a scene to turn and zoom, without a network, drawn by WebGL."""

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmcity.structures import Cameras, Gaussians, SplatInfo, robust_bounds
from mmcity.structures.io.gaussians_spz import pack_spz
from mmcity.utils.fileio import read_text, to_json, write_text

_TEMPLATE = Path(__file__).with_name("splat_page.html")
#: More Gaussians than this get SH of degree 1, and more than that are too many for a browser.
_MANY, _MOST = 500_000, 3_000_000
#: Cameras of a scene that the page can stand in.
_MOST_CAMERAS = 100
_LICENCE = "made with mmcity (Apache-2.0); the page holds the scene and calls nobody"


def write_splat_page(
    gaussians: Gaussians,
    path: str | os.PathLike,
    *,
    info: SplatInfo | None = None,
    up: Sequence[float] = (0.0, 0.0, 1.0),
    cameras: Cameras | None = None,
    names: Sequence[str] = (),
    sh: int | None = None,
    title: str | None = None,
) -> SplatInfo:
    """Write a page that shows Gaussians and needs nothing else, neither a server nor a network.

    It holds them as SPZ of version 3, about the middle of the scene.

    Args:
        gaussians: At most three millions.
        path: ``.html`` file.
        info: Model and colour space of the scene. Defaults to None: the usual ones.
        up: Vector ``(3,)`` that points up. Defaults to z.
        cameras: To step through; of more than a hundred every so many. Defaults to none.
        names: Of the cameras. Defaults to their numbers.
        sh: Highest degree of SH. Defaults to 3, or 1 above 500,000 Gaussians.
        title: Shown above, and in the window's title. Defaults to the name of the file.

    Returns:
        What the page holds, and what was lost.

    Raises:
        ValueError: If there are too many Gaussians, or values cannot be stored.
    """
    count = len(gaussians)
    if count > _MOST:
        raise ValueError(
            f"{path}: expected at most {_MOST:,} Gaussians in a page, got {count:,}: write "
            "lod-meta.json or tileset.json, which viewers stream"
        )
    info = info or SplatInfo()
    low, high = robust_bounds(gaussians.means, gaussians.opacities).double().cpu()
    middle = (low + high) / 2
    degree = gaussians.sh_degree or 0
    kept = min((1 if count > _MANY else 3) if sh is None else sh, degree)
    about = Gaussians(
        gaussians.means.double() - middle.to(gaussians.means.device),
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh0,
        None if gaussians.shN is None else gaussians.shN[:, : (kept + 1) ** 2 - 1],
        gaussians.features if gaussians.sh0 is None else None,
    )
    # The page around it says which way is up.
    packed, said = pack_spz(about, path, version=3, info=replace(info, axes=None))
    if kept < degree:
        said = replace(said, lost=(f"SH cut from degree {degree} to {kept}", *said.lost))
    axis = torch.as_tensor(up, dtype=torch.float64)
    title = title or Path(path).name
    settings = {
        "title": title,
        "licence": _LICENCE,
        "antialiased": said.model == "antialiased",
        "linear": info.color_space == "linear",
        "up": (axis / axis.norm()).tolist(),
        "origin": middle.tolist(),
        "radius": max(float((high - low).norm()) / 2, 1e-6),
        "cameras": [] if cameras is None else _viewpoints(cameras, names),
    }
    page = read_text(_TEMPLATE).replace("@TITLE@", html.escape(title))
    # "</" would end the element; JSON allows the escaped slash.
    page = page.replace("@SETTINGS@", to_json(settings).replace("</", "<\\/"))
    write_text(path, page.replace("@SCENE@", base64.b64encode(packed).decode()))
    return replace(said, format="html", axes=info.axes)


def _viewpoints(cameras: Cameras, names: Sequence[str]) -> list[dict[str, Any]]:
    step = -(-len(cameras) // _MOST_CAMERAS)
    names = names or [str(number) for number in range(len(cameras))]
    return [
        {
            "name": names[row],
            "view": cameras.viewmats[row].double().cpu().ravel().tolist(),
            "fy": float(cameras.Ks[row, 1, 1]),
            "height": int(cameras.heights[row]),
        }
        for row in range(0, len(cameras), step)
    ]
