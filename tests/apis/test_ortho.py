"""Orthophotos: pixels and heights at the right places, in tiles, with and without a world."""

import numpy as np
import pytest
import tifffile
import torch

from mmcity.apis.scenes import ortho as module
from mmcity.apis.scenes import render_ortho
from mmcity.structures import Gaussians, SceneFrame, write_gaussians
from mmcity.utils.cli import UserError


def plate(x, y, z: float, color, step: float = 0.25) -> Gaussians:
    """Flat square of small Gaussians between x and y (lower and upper), of one colour."""
    grids = np.meshgrid(*(np.arange(low + step / 2, high, step) for low, high in (x, y)))
    means = np.stack([*(g.ravel() for g in grids), np.full(grids[0].size, z)], -1)
    count = len(means)
    sh0 = (torch.tensor(color).float() - 0.5) / 0.28209479177387814
    return Gaussians(
        means=torch.from_numpy(means).float(),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.tensor([0.6 * step, 0.6 * step, 0.01]).expand(count, 3),
        opacities=torch.full((count,), 0.99),
        sh0=sh0.expand(count, 1, 3),
    )


def town(frame: SceneFrame | None = None) -> Gaussians:
    """Green ground from -20 to 20, and a red roof 4 x 2 at (10..14, -6..-4), 8 high."""
    ground = plate((-20, 20), (-20, 20), 0.0, (0.1, 0.6, 0.1))
    roof = plate((10, 14), (-6, -4), 8.0, (0.8, 0.1, 0.1))
    stray = plate((500, 501), (500, 501), 0.0, (1.0, 1.0, 1.0))
    stray.opacities[:] = 0.05
    scene = Gaussians.cat([ground, roof, stray])
    scene.frame = frame
    return scene


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, "_TILE", 32)


def test_pixels_and_heights_are_at_their_places(small_tiles, tmp_path):
    write_gaussians(town(), tmp_path / "town.ply")
    found = render_ortho(
        tmp_path / "town.ply", tmp_path / "ortho.tif",
        pixel_size=0.5, extent=(-18, -16, 19, 16.2),
    )  # fmt: skip
    assert found.size == (74, 65) and found.extent == (-18, 16.2 - 32.5, 19, 16.2)
    picture, heights = tifffile.imread(found.path), tifffile.imread(found.heights)
    assert picture.shape == (65, 74, 4) and heights.shape == (65, 74)
    assert picture.dtype == np.uint8 and heights.dtype == np.float32
    # Centres of pixels: x = -17.75 + 0.5 column, y = 15.95 - 0.5 row.
    x, y = -17.75 + 0.5 * np.arange(74), 15.95 - 0.5 * np.arange(65)
    inside = ((x > 10) & (x < 14))[None] & ((y > -6) & (y < -4))[:, None]
    near = ((x > 9) & (x < 15))[None] & ((y > -7) & (y < -3))[:, None]
    assert inside.sum() == 8 * 4
    red = (picture[..., 0] > 150) & (picture[..., 1] < 80)
    green = (picture[..., 1] > 120) & (picture[..., 0] < 60)
    assert red[inside].mean() > 0.9 and green[~near].all() and not red[~near].any()
    assert (picture[..., 3] > 250).all()
    assert np.abs(heights[inside] - 8).max() < 0.05 and np.abs(heights[~near]).max() < 0.05
    world = [float(line) for line in (tmp_path / "ortho.tfw").read_text().split()]
    assert world == pytest.approx([0.5, 0, 0, -0.5, -17.75, 15.95])
    assert (tmp_path / "ortho_dsm.tfw").is_file()


def test_the_scene_without_strays_is_the_extent(small_tiles, tmp_path):
    write_gaussians(town(), tmp_path / "town.ply")
    found = render_ortho(
        tmp_path / "town.ply", tmp_path / "o.tif", pixel_size=0.5, max_height=4.0, heights=False
    )
    west, south, east, north = found.extent
    assert -25 < west < -20 and 20 < east < 25 and -25 < south < -20 and 20 < north < 25
    picture = tifffile.imread(found.path)
    assert picture[0, 0, 3] == 0  # nothing there: transparent
    assert not (picture[..., 0] > 150).any()  # the roof is cut off
    assert found.heights is None and not (tmp_path / "o_dsm.tif").exists()


@pytest.mark.parametrize("crs", ["EPSG:32632", "ENU"])
def test_a_scene_with_a_world_gives_geotiff(small_tiles, crs, tmp_path):
    """The frame turns by 90 degrees, doubles, and lies 500 km east."""
    lla = (47.4, 8.5, 400.0) if crs == "ENU" else None
    turn = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # scene x is north
    frame = SceneFrame(crs, (500_000.0, 5_250_000.0, 400.0), lla, scale=2.0, rotation=turn)
    write_gaussians(town(frame), tmp_path / "town.ply")
    west, north = 500_000.0 - 36, 5_250_000.0 + 36
    found = render_ortho(
        tmp_path / "town.ply", tmp_path / "ortho.tif",
        pixel_size=1.0, extent=(west, north - 72, west + 72, north),
    )  # fmt: skip
    assert found.crs == crs and not (tmp_path / "ortho.tfw").exists()
    with tifffile.TiffFile(found.heights) as file:
        tags, heights = file.pages[0].tags, file.asarray()
        keys = file.geotiff_metadata
    assert tags[33550].value[:2] == (1.0, 1.0) and tags[33922].value[3:5] == (west, north)
    assert tags[42113].value == "-9999"
    if crs == "ENU":
        assert (keys["ProjCenterLatGeoKey"], keys["ProjCenterLongGeoKey"]) == (47.4, 8.5)
        assert int(keys["ProjCoordTransGeoKey"]) == 21
    else:
        assert int(keys["ProjectedCSTypeGeoKey"]) == 32632
    # The roof at scene x 10..14, y -6..-4 is at world east 8..12, north 20..28, 400 + 16 m high.
    east = west + 0.5 + np.arange(72) - 500_000
    up = north - 0.5 - np.arange(72) - 5_250_000
    inside = ((east > 8) & (east < 12))[None] & ((up > 20) & (up < 28))[:, None]
    assert inside.sum() == 4 * 8 and np.abs(heights[inside] - 416).max() < 0.1
    assert np.median(heights) == pytest.approx(400, abs=0.05)


def test_heights_of_the_toy_town(small_tiles, toytown_citygsx, tmp_path):
    """The points that its cameras see, as small Gaussians, have the heights that they have."""
    import trimesh

    points = np.asarray(trimesh.load(toytown_citygsx / "gt" / "visible_points.ply").vertices)
    step, count = 1.0, len(points)
    write_gaussians(
        Gaussians(
            means=torch.from_numpy(points).float(),
            quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
            scales=torch.full((count, 3), 0.2),
            opacities=torch.full((count,), 0.95),
            sh0=torch.zeros(count, 1, 3),
        ),
        tmp_path / "points.ply",
    )
    low, high = np.floor(points[:, :2].min(0)) + 2, np.ceil(points[:, :2].max(0)) - 2
    found = render_ortho(
        tmp_path / "points.ply", tmp_path / "town.tif", pixel_size=step,
        extent=(*low, *high), max_height=float(points[:, 2].max()) + 1,
    )  # fmt: skip
    heights = tifffile.imread(found.heights)
    cell = np.floor((points[:, :2] - [low[0], high[1]]) / [step, -step]).astype(int)
    inside = ((cell >= 0) & (cell < found.size)).all(1)
    highest, lowest = np.full(heights.shape, -np.inf), np.full(heights.shape, np.inf)
    places = tuple(cell[inside].T[::-1])
    np.maximum.at(highest, places, points[inside, 2])
    np.minimum.at(lowest, places, points[inside, 2])
    flat = np.isfinite(highest) & (highest - lowest < 0.3) & (heights > module.NO_HEIGHT)
    assert flat.sum() > 200
    errors = np.abs(heights - highest)[flat]
    assert np.median(errors) < 0.15 and np.quantile(errors, 0.9) < 0.5


def test_colours_are_those_seen_from_above_in_every_tile(small_tiles, tmp_path):
    """A colour that depends on the direction shows no seams: rays are parallel."""
    ground = plate((-20, 20), (-20, 20), 0.0, (0.5, 0.5, 0.5))
    ground.shN = torch.zeros(len(ground), 3, 3)
    ground.shN[:, 1, 0] = -0.3  # of z: red grows downwards; ...
    ground.shN[:, 0, 1] = ground.shN[:, 2, 2] = 0.4  # ... of y and x: not seen from above
    write_gaussians(ground, tmp_path / "ground.ply")
    found = render_ortho(
        tmp_path / "ground.ply", tmp_path / "o.tif", pixel_size=0.5, extent=(-16, -16, 16, 16)
    )
    picture = tifffile.imread(found.path)
    red = 255 * (0.5 + 0.3 * np.sqrt(3 / (4 * np.pi)))
    assert np.abs(picture[..., :3].astype(float) - [red, 127.5, 127.5]).max() <= 1


def test_what_is_no_size_or_extent_is_refused(tmp_path):
    write_gaussians(town(), tmp_path / "town.ply")
    for wrong, message in (
        (dict(pixel_size=0.0), "--pixel-size: expected a number above 0"),
        (dict(extent=(3, 0, 1, 2)), "--extent: expected WEST < EAST"),
        (dict(out=tmp_path / "ortho.png"), r"ends in \.tif, got \.png"),
    ):
        with pytest.raises(UserError, match=message):
            render_ortho(tmp_path / "town.ply", **{"out": tmp_path / "o.tif", **wrong})
