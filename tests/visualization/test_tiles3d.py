"""Tilesets: what is written comes back, and fits the rules of 3D Tiles."""

import json

import numpy as np
import pytest
import torch

from mmcity.structures import GaussianFileError, build_lod_tree
from mmcity.visualization.tiles3d import east_north_up_frame, read_tileset, write_tileset
from tests.structures.test_gaussian_lod import street


@pytest.fixture(scope="module")
def tree():
    return build_lod_tree(street(2000), max_per_cell=300, merge_resolution=12)


def tiles(entry):
    yield entry
    for child in entry.get("children", []):
        yield from tiles(child)


def test_round_trip(tmp_path, tree):
    write_tileset(tree, tmp_path)
    again = read_tileset(tmp_path)
    assert [cell.children for cell in again.cells] == [cell.children for cell in tree.cells]
    for before, after in zip(tree.cells, again.cells):
        assert after.error == pytest.approx(before.error)
        assert torch.allclose(after.gaussians.means, before.gaussians.means, atol=1e-5)
        assert torch.equal(after.gaussians.opacities, before.gaussians.opacities)


def test_boxes_hold_the_content_and_errors_shrink(tmp_path, tree):
    index = write_tileset(tree, tmp_path, up="z")
    root = json.loads(index.read_text())["root"]
    for entry in tiles(root):
        center, axes = np.split(np.array(entry["boundingVolume"]["box"]), [3])
        reach = np.abs(axes.reshape(3, 3)).sum(0)
        means = read_tileset_cell(tmp_path / entry["content"]["uri"])
        assert (np.abs(means - center) <= reach + 1e-4).all()
        assert entry["refine"] == "REPLACE"
        for child in entry.get("children", []):
            assert child["geometricError"] <= entry["geometricError"]


def read_tileset_cell(path) -> np.ndarray:
    """Positions as a viewer places them: glTF's axes, then a quarter turn to z up."""
    from mmcity.structures import read_gaussians_glb

    x, y, z = read_gaussians_glb(path, up="y").means.double().numpy().T
    return np.stack([x, -z, y], -1)


def test_place_on_earth(tmp_path, tree):
    """Distances on the ellipsoid against closed forms at the equator and a pole."""
    equator = east_north_up_frame(0.0, 0.0, 10.0)
    assert np.allclose(equator[:3, 3], [6378147.0, 0, 0])
    assert np.allclose(equator[:3, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    pole = east_north_up_frame(90.0, 90.0)
    assert np.allclose(pole[:3, 3], [0, 0, 6356752.314245], atol=1e-3)
    index = write_tileset(tree, tmp_path, georeference=(8.5, 47.4, 400.0))
    frame = np.array(json.loads(index.read_text())["root"]["transform"]).reshape(4, 4).T
    assert np.allclose(frame[:3, :3] @ frame[:3, :3].T, np.eye(3))
    assert np.linalg.norm(frame[:3, 3]) == pytest.approx(6367000, abs=5000)


def test_broken_tileset(tmp_path, tree):
    index = write_tileset(tree, tmp_path)
    index.write_text(index.read_text()[:-40])
    with pytest.raises(GaussianFileError, match="tileset.json"):
        read_tileset(tmp_path)
