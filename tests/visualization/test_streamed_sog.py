"""Streamed SOG: what is written is read again in all levels, and what is refused."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from mmcity.structures import (
    GaussianFileError,
    GaussianLodTree,
    Gaussians,
    SceneFrame,
    SplatInfo,
    build_lod_tree,
    read_frame_of,
    read_gaussian_file,
)
from mmcity.visualization.streamed_sog import write_streamed_sog
from tests.structures.io.test_gaussian_formats import scene

FRAME = SceneFrame(crs="EPSG:25832", origin=(452310.0, 5411872.0, 213.0))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of a scene of 300 Gaussians in several leaves and units of at most 100."""
    folder = tmp_path_factory.mktemp("streamed") / "scene"
    before = scene(300, degree=1)
    before.frame = FRAME
    info = SplatInfo("antialiased")
    said = write_streamed_sog(build_lod_tree(before, 40), folder, levels=3, unit=100, info=info)
    assert said.format == "streamed sog" and said.model == "antialiased"
    return folder, before


def test_the_finest_level_is_the_scene(written):
    folder, before = written
    after, info = read_gaussian_file(folder)
    assert (info.format, info.model, info.sh_degree) == ("streamed sog", "antialiased", 1)
    assert after.frame == FRAME == read_frame_of(folder / "lod-meta.json")
    distance, rows = cKDTree(after.means.numpy()).query(before.means.numpy())
    assert sorted(rows.tolist()) == list(range(300)) and distance.max() < 0.01
    assert (after[rows].opacities - before.opacities).abs().max() < 0.003


def test_levels_are_coarser_and_counted(written):
    folder, _ = written
    meta = json.loads((folder / "lod-meta.json").read_text())
    counts = [len(read_gaussian_file(folder, lod=level)[0]) for level in range(3)]
    assert counts == meta["counts"] and sum(counts) == meta["count"]
    assert counts[0] == 300 > counts[1] > counts[2]
    assert len(meta["filenames"]) >= 5  # of at most 100 rows each
    with pytest.raises(GaussianFileError, match="level of 0 to 2 or 'all', got 3"):
        read_gaussian_file(folder, lod=3)


def nodes(node):
    yield node
    for child in node.get("children", []):
        yield from nodes(child)


def test_bounds_hold_leaves_and_errors_rise(written):
    folder, _ = written
    meta = json.loads((folder / "lod-meta.json").read_text())
    finest = [read_gaussian_file(folder / name)[0] for name in meta["filenames"]]
    end = [0] * len(finest)
    for node in nodes(meta["tree"]):
        assert ("children" in node) != ("lods" in node)
        for child in node.get("children", []):
            assert all(np.array(child["bound"]["min"]) >= node["bound"]["min"])
            assert all(np.array(child["bound"]["max"]) <= node["bound"]["max"])
        if "lods" in node:
            assert node["errors"] == sorted(node["errors"]) and node["errors"][0] == 0
            for part in node["lods"].values():  # in the order of leaves, without gaps
                assert part["offset"] == end[part["file"]]
                end[part["file"]] += part["count"]
            rows = node["lods"]["0"]
            means = finest[rows["file"]].means[rows["offset"] :][: rows["count"]].numpy()
            assert (means > np.array(node["bound"]["min"]) - 0.01).all()
            assert (means < np.array(node["bound"]["max"]) + 0.01).all()
    assert end == [len(unit) for unit in finest]


def test_all_levels_make_a_tree(written):
    folder, _ = written
    tree, _ = read_gaussian_file(folder, lod="all")
    assert isinstance(tree, GaussianLodTree)
    assert len(tree.gather(tree.leaves)) == 300
    counts = [len(read_gaussian_file(folder, lod=level)[0]) for level in range(3)]
    assert len(tree.cells[0].gaussians) == counts[2]
    for cell in tree.cells:
        for child in cell.children:
            assert tree.cells[child].error <= cell.error
            assert tree.cells[child].depth == cell.depth + 1
            assert (tree.cells[child].box[0] >= cell.box[0]).all()


def test_a_second_scene_leaves_nothing_of_the_first(tmp_path):
    write_streamed_sog(build_lod_tree(scene(90, 0), 20), tmp_path / "a", unit=20)
    first = {path.name for path in (tmp_path / "a").iterdir()}
    write_streamed_sog(build_lod_tree(scene(20, 0), 50), tmp_path / "a", levels=1)
    second = {path.name for path in (tmp_path / "a").iterdir()}
    assert first & second == {"lod-meta.json"} and len(first) == len(second) == 2


def test_wide_leaves_are_split_where_they_are_full(tmp_path):
    many = scene(1, 0)[torch.zeros(20_000, dtype=torch.long)]
    many = Gaussians(
        torch.rand(20_000, 3) * torch.tensor([40.0, 1, 1]), many.quats, many.scales,
        many.opacities, many.sh0,
    )  # fmt: skip
    write_streamed_sog(build_lod_tree(many, 30_000), tmp_path / "a", levels=1)
    meta = json.loads((tmp_path / "a" / "lod-meta.json").read_text())
    leaves = [node for node in nodes(meta["tree"]) if "lods" in node]
    assert [len(leaves), sum(leaf["lods"]["0"]["count"] for leaf in leaves)] == [4, 20_000]


def deep(meta):
    for _ in range(70):
        meta["tree"] = {"bound": {}, "children": [meta["tree"]]}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.update(version=2), "version 1, got 2"),
        (lambda m: m.update(counts=[1, 2, 3]), "expected 1 Gaussians in level 0, got 300"),
        (lambda m: m.update(filenames=["../" + n for n in m["filenames"]]), "leads out of it"),
        (lambda m: m.update(filenames=["x" + n for n in m["filenames"]]), "no such file"),
        (lambda m: m.update(lodLevels=10**9), "whole number up to 64"),
        (lambda m: m.pop("tree"), "streamed SOG scene, got 'tree'"),
        (lambda m: next(leaves(m))["lods"]["0"].update(file=99), "whole number up to"),
        (lambda m: next(leaves(m))["lods"]["0"].update(offset=5000), "expected rows 5000 to"),
        (lambda m: next(leaves(m)).update(errors=[1, 0, 2]), "rising errors"),
        (deep, "at most 64 levels"),
    ],
)
def test_broken_indices_name_themselves(written, tmp_path, change, message):
    folder, _ = written
    meta = json.loads((folder / "lod-meta.json").read_text())
    change(meta)
    for unit in folder.glob("units-*"):
        (tmp_path / unit.name).symlink_to(unit)
    (tmp_path / "lod-meta.json").write_text(json.dumps(meta))
    with pytest.raises(GaussianFileError, match=message) as error:
        read_gaussian_file(tmp_path)
    assert "lod-meta.json" in str(error.value)


def leaves(meta):
    return (node for node in nodes(meta["tree"]) if "lods" in node)
