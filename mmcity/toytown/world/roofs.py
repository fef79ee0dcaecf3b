"""Roofs: parapets of flat ones, gabled and hipped ones."""

import numpy as np

from mmcity.toytown.world.building_style import BuildingStyle, LotFrame
from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.taxonomy import WorldClass


def add_parapet(
    builder: MeshBuilder, at: LotFrame, rect: tuple, z: float, height: float, style: BuildingStyle
) -> None:
    """Top and inner faces of the wall around a flat roof.

    Args:
        builder: Takes the faces.
        at: Frame of the lot.
        rect: x0, y0, x1, y1 of the wing in that frame.
        z: Height of the roof.
        height: Of the parapet above it.
        style: Colours and ids.
    """
    x0, y0, x1, y1 = rect
    t = 0.25
    outer = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    inner = [(x0 + t, y0 + t), (x1 - t, y0 + t), (x1 - t, y1 - t), (x0 + t, y1 - t)]
    kwargs = {"color": style.trim, "instance": style.instance, "seed": style.seed}
    for k in range(4):
        n = (k + 1) % 4
        top = [at(*p, z + height) for p in (outer[k], outer[n], inner[n], inner[k])]
        builder.patch(top, Material.KERB, WorldClass.BUILDING, **kwargs)
        a, b, up = inner[n], inner[k], z + height
        face = [at(*a, z), at(*b, z), at(*b, up), at(*a, up)]
        builder.patch(face, Material.PLASTER, WorldClass.BUILDING, **kwargs)


def add_pitched_roof(
    builder: MeshBuilder,
    at: LotFrame,
    rect: tuple,
    z: float,
    rise: float,
    kind: str,
    style: BuildingStyle,
) -> None:
    """Gabled or hipped roof with eaves over a wing; the ridge runs along its longer side.

    Args:
        builder: Takes the faces.
        at: Frame of the lot.
        rect: x0, y0, x1, y1 of the wing in that frame.
        z: Height of the eaves at the wall.
        rise: Of the ridge above the eaves.
        kind: ``'gable'`` or ``'hip'``.
        style: Materials and ids.
    """
    x0, y0, x1, y1 = rect
    along_x = (x1 - x0) >= (y1 - y0)
    if not along_x:  # swap the axes so that the ridge runs along the first coordinate
        x0, y0, x1, y1 = y0, x0, y1, x1

    def point(s: float, t: float, h: float) -> np.ndarray:
        return at(s, t, z + h) if along_x else at(t, s, z + h)

    over = 0.45
    middle = (y0 + y1) / 2
    drop = rise * over / ((y1 - y0) / 2)
    hip = (y1 - y0) / 2 if kind == "hip" else 0.0
    end = over if kind == "gable" else 0.0
    r0, r1 = x0 + hip - end, x1 - hip + end
    kwargs = {"instance": style.instance, "seed": style.seed}
    tile = {"color": style.tile, **kwargs}
    e0, e1 = (x0 - over, x1 + over)
    for t in (y0 - over, y1 + over):
        corners = [point(e0, t, -drop), point(e1, t, -drop)]
        corners += [point(r1, middle, rise), point(r0, middle, rise)]
        builder.patch(corners, Material.ROOF_TILE, WorldClass.BUILDING, **tile)
    for s, r in ((x0, r0), (x1, r1)):
        outward = -over if s == x0 else over
        if kind == "hip":
            corners = [point(s + outward, y, -drop) for y in (y0 - over, y1 + over)]
            corners.append(point(r, middle, rise))
            material, color = Material.ROOF_TILE, style.tile
        else:
            corners = [point(s, y0, 0), point(s, y1, 0), point(s, middle, rise)]
            material, color = style.material, style.color
        axis_u = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
        up = corners[2] - 0.5 * (corners[0] + corners[1])
        axes = {"origin": corners[0], "axis_u": axis_u, "axis_v": up / np.linalg.norm(up)}
        row = builder.surface(material, WorldClass.BUILDING, color=color, **axes, **kwargs)
        builder.triangles(np.array(corners), np.array([[0, 1, 2]]), row)
