"""Scenes as other programs and operating systems leave them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcity.datasets import ColmapDataset, Occ3DWaymoOccSequence
from mmcity.datasets.depth_scale import fit_scene_depths
from mmcity.datasets.io import colmap_model
from mmcity.datasets.io.colmap_model import find_colmap_model, read_colmap_model, write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapFormatError
from mmcity.datasets.io.point_ply import read_point_ply, write_point_ply
from mmcity.structures.io.ply import PlyFormatError, write_ply_vertices
from mmcity.utils.checks import count_pairs

from .scenes import make_model, write_scene


def _text_without_second_lines(root: Path, names: list[str]) -> None:
    model = write_scene(root, names=names, ext=".txt")
    for image in model.images.values():
        image.xys, image.point3D_ids = np.zeros((0, 2)), np.zeros(0, np.int64)
    model.points3D = model.points3D[:0]
    write_colmap_model(model, root / "sparse/0", ".txt")
    path = root / "sparse/0/images.txt"
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if line))


@pytest.mark.parametrize("name", ["{:03d}.png", "IMG {} a.png", "a b {} c.png", "1 {} 3.png"])
def test_lines_of_images_are_read_as_what_they_are(tmp_path, name):
    names = [name.format(row) for row in range(8)]
    _text_without_second_lines(tmp_path, names)

    model = read_colmap_model(tmp_path / "sparse/0")

    assert [image.name for image in model.images.values()] == names


def test_feature_points_stay_with_their_images(tmp_path):
    expected = make_model(count=4)
    write_colmap_model(expected, tmp_path, ".txt")
    path = tmp_path / "images.txt"
    lines = path.read_text().splitlines()
    # The second image loses its line of features, the third has two empty lines before it.
    path.write_text("\n".join([*lines[:5], "", "", *lines[6:]]))

    images = list(read_colmap_model(tmp_path, with_points=False).images.values())

    assert [len(image.xys) for image in images] == [20, 0, 20, 20]
    np.testing.assert_array_equal(images[2].xys, list(expected.images.values())[2].xys)


def test_lines_that_are_neither_image_nor_features_are_named(tmp_path):
    write_colmap_model(make_model(count=2), tmp_path, ".txt")
    path = tmp_path / "images.txt"
    path.write_text(path.read_text() + "what is this\n")

    with pytest.raises(ColmapFormatError, match=r"images\.txt: expected 'ID QW .* in line 7"):
        read_colmap_model(tmp_path)


@pytest.mark.parametrize("ext", [".bin", ".txt"])
def test_the_largest_of_several_models_is_taken(tmp_path, ext):
    for name, count in (("0", 2), ("1", 12), ("10", 3)):
        write_colmap_model(make_model(count=count), tmp_path / "sparse" / name, ext)

    assert find_colmap_model(tmp_path) == tmp_path / "sparse/1"
    assert find_colmap_model(tmp_path / "sparse/0") == tmp_path / "sparse/0"


def test_other_models_are_named(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(colmap_model, "print_log", lambda text, *_: said.append(text))
    for name, count in (("0", 2), ("1", 12)):
        write_colmap_model(make_model(count=count), tmp_path / "sparse" / name)

    find_colmap_model(tmp_path)

    assert "sparse/1 is taken, with 12 images" in said[0] and "sparse/0 (2)" in said[0]


def test_a_model_without_points_gives_its_cameras(tmp_path):
    write_scene(tmp_path)
    (tmp_path / "sparse/0/points3D.bin").unlink()

    assert len(ColmapDataset(tmp_path, split="all", require_points=False)) == 6
    with pytest.raises(FileNotFoundError, match=r"points3D\.bin.*require_points=False"):
        ColmapDataset(tmp_path)


def test_points_in_a_ply_take_the_place_of_the_models(tmp_path):
    model = write_scene(tmp_path)
    (tmp_path / "sparse/0/points3D.bin").unlink()
    write_point_ply(tmp_path / "sparse/0/points3D.ply", model.points3D.xyz, model.points3D.rgb)

    scene = ColmapDataset(tmp_path, split="all")
    whole = read_colmap_model(tmp_path)

    np.testing.assert_allclose(scene.points3D.xyz, model.points3D.xyz, rtol=1e-6)
    np.testing.assert_array_equal(scene.points3D.rgb, model.points3D.rgb)
    assert all((image.point3D_ids == -1).all() for image in whole.images.values())


@pytest.mark.parametrize(
    "dtype, white", [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 255),
                     (np.int32, 255)],
)  # fmt: skip
def test_colours_of_points_have_one_rule(tmp_path, dtype, white):
    grey = np.array([0, 51, 255])
    columns = {axis: np.zeros(3, "<f4") for axis in "xyz"}
    columns |= {name: (grey / 255 * white).astype(dtype) for name in ("red", "green", "blue")}
    write_ply_vertices(tmp_path / "p.ply", columns)

    assert read_point_ply(tmp_path / "p.ply").rgb.tolist() == [[v] * 3 for v in grey]


def test_colours_of_an_unknown_range_are_refused(tmp_path):
    columns = {axis: np.zeros(2, "<f4") for axis in "xyz"}
    columns |= {name: np.array([0, np.nan], "<f4") for name in ("red", "green", "blue")}
    write_ply_vertices(tmp_path / "p.ply", columns)

    with pytest.raises(PlyFormatError, match=r"p\.ply: colours: expected floats"):
        read_point_ply(tmp_path / "p.ply")


# ------------------------------------------------------------------ rigs


def _rig(root: Path, depth_dir: str, flat: bool = False) -> None:
    """Two cameras whose pictures have the same names; their priors' scales are 0.5 and 2."""
    names = [f"cam{c}/{i:04d}.png" for c in range(2) for i in range(4)]
    model = write_scene(root, names=names, points=60)
    z = {}
    for image in model.images.values():
        z[image.name] = model.points3D.xyz @ image.viewmat[2, :3] + image.viewmat[2, 3]
    for image in model.images.values():
        scale = 0.5 if image.name.startswith("cam0") else 2.0
        grid = np.stack(np.meshgrid(np.arange(40), np.arange(30)), -1).reshape(-1, 1, 2)
        nearest = np.linalg.norm(grid - image.xys, axis=-1).argmin(1).reshape(30, 40)
        values = (1 / z[image.name] / scale * 65536)[nearest]
        path = root / depth_dir / (Path(image.name).name if flat else image.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.round().clip(0, 65535).astype(np.uint16)).save(path)


def test_priors_of_a_rig_keep_their_own_scales(tmp_path):
    _rig(tmp_path, "depths")

    path, params = fit_scene_depths(tmp_path, depth_dir="depths")
    scene = ColmapDataset(tmp_path, split="all", depth_dir="depths")

    assert sorted(params) == [f"cam{c}/{i:04d}" for c in range(2) for i in range(4)]
    for image in scene.images:
        true = 0.5 if image.name.startswith("cam0") else 2.0
        assert image.extra["depth_scale"] * 65536 == pytest.approx(true, rel=0.25)
        assert image.extra["depth_path"].endswith(f"depths/{image.name}")


def test_flat_maps_of_a_rig_are_refused_by_name(tmp_path):
    _rig(tmp_path, "depths", flat=True)

    with pytest.raises(ValueError, match=r"one picture, got those of 'cam0/0000.png' and 'cam1/00"):
        fit_scene_depths(tmp_path, depth_dir="depths")
    with pytest.raises(ValueError, match="the mask of one picture"):
        ColmapDataset(tmp_path, mask_dir="depths")


def test_parameters_by_base_name_must_mean_one_picture(tmp_path):
    _rig(tmp_path, "depths")
    table = {f"{i:04d}": {"scale": 1.0, "offset": 0.0} for i in range(4)}
    (tmp_path / "sparse/0/depth_params.json").write_text(json.dumps(table))

    with pytest.raises(ValueError, match="'0000', which may mean 'cam0/0000.png' or 'cam1/0000"):
        ColmapDataset(tmp_path, depth_dir="depths")


def test_names_from_windows_are_those_of_the_files(tmp_path):
    model = write_scene(tmp_path, names=["cam0/a.png", "cam1/a.png"], ext=".txt")
    path = tmp_path / "sparse/0/images.txt"
    path.write_bytes(
        path.read_text().replace("cam0/", "cam0\\").replace("\n", "\r\n").encode("utf-8-sig")
    )
    (tmp_path / "list_test.txt").write_bytes("cam0\\a.png\r\n".encode("utf-8-sig"))

    scene = ColmapDataset(tmp_path, split="test")

    assert scene.img_names == ["cam0/a.png"]
    assert scene.images[0].path == tmp_path / "images/cam0/a.png"
    assert len(scene.images) == len(model.images)


# ------------------------------------------------------------------ pairs


@pytest.mark.parametrize("poses", [2, 3, 4, 6])
def test_clips_have_a_pose_for_each_frame(tmp_path, poses):
    folder = tmp_path / "training" / "000"
    folder.mkdir(parents=True)
    for frame in range(4):
        labels = np.full((4, 4, 2), 23, np.uint8)
        np.savez(
            folder / f"{frame:03d}_04.npz",
            voxel_label=labels,
            origin_voxel_state=np.ones_like(labels),
            final_voxel_state=np.ones_like(labels),
        )
    rows = [" ".join(map(str, np.eye(4)[:3].ravel())) for _ in range(poses)]
    (folder / "poses.txt").write_text("\n".join(rows))

    scene = Occ3DWaymoOccSequence(str(tmp_path), "training", sequence_length=2).load_scenes()[0]

    assert len(scene["frames"]) == len(scene["poses"]) == min(poses, 4)


def test_pairs_by_count_are_refused_where_order_tells():
    assert count_pairs("a", images=[1, 2], poses="ab") == 2
    with pytest.raises(ValueError, match="a: expected as many images as poses, got 2 images and 3"):
        count_pairs("a", images=[1, 2], poses="abc")
    assert count_pairs("a", trim=True, images=[1, 2], poses="abc") == 2
