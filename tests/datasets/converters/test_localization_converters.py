"""Scenes from the archives of Cambridge Landmarks and from folders of pictures."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.cli.main import dispatch
from mmcity.datasets import CambridgeLandmarks, ColmapDataset
from mmcity.datasets.converters import map_pictures
from mmcity.datasets.io.nvm import read_nvm
from mmcity.structures.geometry import axis_angle_to_rotmat, rotmat_to_quat
from mmcity.utils import DependencyError
from tests.cli.conftest import call_tool


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two sequences of four frames; one frame is not reconstructed, one is far away."""
    root = tmp_path_factory.mktemp("cambridge") / "Shop"
    rng = np.random.RandomState(0)
    poses, lines = {}, {"train": [], "test": []}
    for sequence, split in (("seq1", "train"), ("seq2", "test")):
        (root / sequence).mkdir(parents=True)
        for frame in range(4):
            name = f"{sequence}/frame{frame:05d}.png"
            picture = rng.randint(0, 255, (108, 192, 3), np.uint8)
            Image.fromarray(picture).save(root / name)
            turn = axis_angle_to_rotmat(torch.from_numpy(rng.normal(size=3)))
            center = rng.normal(size=3)
            if name.endswith("seq1/frame00003.png"):
                center[0] = 2e4
            poses[name] = (turn.numpy(), center)
            numbers = [*center, *rotmat_to_quat(turn).tolist()]
            lines[split].append(" ".join([name, *(f"{v:.9f}" for v in numbers)]))
    for split, rows in lines.items():
        header = ["Visual Landmark Dataset V1", "ImageFile, Camera Position [X Y Z W P Q R]", ""]
        (root / f"dataset_{split}.txt").write_text("\n".join([*header, *rows]) + "\n")
    known = [name for name in poses if name != "seq2/frame00001.png"]
    nvm = ["NVM_V3", "", str(len(known))]
    nvm += [f"{name.replace('.png', '.jpg')}\t170.0 1 0 0 0 0 0 0 -0.02 0" for name in known]
    nvm += ["", "2", "1 2 3 10 20 30 1 0 5 1.0 2.0", "4 5 6 40 50 60 2 0 1 1 1 1 2 3 3"]
    (root / "reconstruction.nvm").write_text("\n".join(nvm) + "\n")
    return root, poses


def test_nvm_points(archive):
    model = read_nvm(archive[0] / "reconstruction.nvm")
    assert model.points.tolist() == [[1, 2, 3], [4, 5, 6]] and len(model.names) == 7
    assert model.colors[1].tolist() == [40, 50, 60] and model.focals[0] == 170


@pytest.mark.parametrize(
    ("cameras", "points"),
    [
        (["a.png nan 1 0 0 0 0 0 0 0 0"], []),
        (["a.png 0 1 0 0 0 0 0 0 0 0"], []),
        (["a.png 500 1 0 0 0 0 0 0 0"], []),
        (["a.png 500 1 0 0 0 0 0 0 0 0", "a.png 400 1 0 0 0 0 0 0 0 0"], []),
        (["a b.png 500 1 0 0 0 0 0 0 0 0"], ["nan 0 1 10 20 30 0"]),
        ([], []),
    ],
)
def test_nvm_files_that_would_be_taken_wrongly_are_refused(tmp_path, cameras, points):
    lines = ["NVM_V3", "", str(len(cameras)), *cameras, "", str(len(points)), *points]
    (tmp_path / "a.nvm").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="a.nvm: expected"):
        read_nvm(tmp_path / "a.nvm")


@pytest.mark.parametrize("layout", ["poses", "colmap"])
def test_cambridge_poses_survive(archive, tmp_path, capsys, layout):
    root, poses = archive
    out = tmp_path / layout
    words = f"{root} {out} --layout {layout} --short-side 54".split()
    if layout == "poses":
        dispatch(["data", "cambridge-landmarks", *words])
    else:
        call_tool("tools/dataset_converters/cambridge_landmarks.py", *words)
    shown = capsys.readouterr().out
    assert "train: 3 photos, 1 left out" in shown and "test: 3 photos, 1 left out" in shown
    for split, count in (("train", 3), ("test", 3)):
        if layout == "poses":
            dataset = CambridgeLandmarks(out, focal=85.0, split=split)
        else:
            dataset = ColmapDataset(out, split=split)
            assert dataset.points3D.rgb.tolist() == [[10, 20, 30], [40, 50, 60]]
        assert len(dataset) == count and dataset.cameras.one_size() == (96, 54)
        assert float(dataset.cameras.Ks[0, 0, 0]) == pytest.approx(85.0)
        for name, camera in zip(dataset.img_names, dataset.cameras):
            stem = Path(name).stem.replace("_", "/", 1) + ".png"
            turn, center = poses[stem]
            np.testing.assert_allclose(camera.viewmats[0, :3, :3], turn, atol=1e-5)
            np.testing.assert_allclose(camera.centers[0], center, atol=1e-4)


def test_folder_checks_come_before_the_work(tmp_path):
    if importlib.util.find_spec("pycolmap") is None:
        with pytest.raises(DependencyError, match=r"requirements/mapping\.txt"):
            map_pictures(tmp_path, tmp_path / "out")
        return
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k, size in enumerate([(40, 30), (40, 30), (32, 30)]):
        Image.new("RGB", size).save(pictures / f"{k}.png")
    with pytest.raises(ValueError, match="of one size .* 32x30: 1"):
        dispatch(["data", "images-to-colmap", str(pictures), str(tmp_path / "out")])
    (pictures / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match="at least 3 pictures"):
        map_pictures(pictures, tmp_path / "out")
    with pytest.raises(FileExistsError, match="new or empty"):
        map_pictures(pictures, pictures)


@pytest.mark.slow
def test_folder_of_photographs_becomes_a_scene(tmp_path):
    pytest.importorskip("pycolmap")
    from tests.conftest import real_data_dir

    source = real_data_dir("fox") / "images"
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted(source.iterdir())[:12]:
        (folder / path.name).write_bytes(path.read_bytes())
    call_tool(
        "tools/dataset_converters/images_to_colmap.py", folder, tmp_path / "scene",
        "--max-features", 1500, "--test-every", 6, "--threads", 1,
    )  # fmt: skip
    scene = ColmapDataset(tmp_path / "scene", split="all")
    assert len(scene) == 12 and len(scene.points3D) > 1000
    # The capture's own calibration: focal length 688 px at this size.
    assert abs(float(scene.cameras.Ks[0, 0, 0]) / 688 - 1) < 0.03
    assert len(ColmapDataset(tmp_path / "scene", split="test")) == 2


def test_sfm_poses_of_seven_scenes(tmp_path, capsys):
    source = tmp_path / "chess"
    lines = {"train": [], "test": []}
    for sequence, split in (("seq-01", "train"), ("seq-02", "test")):
        (source / sequence).mkdir(parents=True)
        for frame in range(2):
            name = f"{sequence}/frame-{frame:06d}.color.png"
            Image.new("RGB", (64, 48)).save(source / name)
            lines[split].append(f"{name} 0 1 0 0 {frame} 2 3 52.5")
    for split, rows in lines.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(rows) + "\n")
    poses = ("--poses", tmp_path / "train.txt", "--test-poses", tmp_path / "test.txt")
    call_tool("tools/dataset_converters/seven_scenes_sfm.py", source, tmp_path / "out", *poses)
    assert "2 training and 2 test images" in capsys.readouterr().out
    scene = ColmapDataset(tmp_path / "out", split="test", require_points=False)
    assert scene.img_names == [row.split()[0] for row in lines["test"]]
    # Half a turn about x: the centre is -R^T t = (-t_x, t_y, t_z).
    np.testing.assert_allclose(scene.cameras.centers[1], [-1, 2, 3], atol=1e-6)
    assert float(scene.cameras.Ks[0, 0, 0]) == pytest.approx(52.5)
    (tmp_path / "train.txt").write_text("seq-01/frame-000000.color.png 1 0 0\n")
    with pytest.raises(ValueError, match="line 1"):
        dispatch(["data", "seven-scenes-sfm", *map(str, (source, tmp_path / "again", *poses))])
