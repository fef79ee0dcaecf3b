"""Commands over many items: a broken one is named, the others are done, the status is an error."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.utils import cli
from tests.apis.localization.test_report import run as run_of
from tests.datasets.scenes import picture, write_scene
from tests.structures.io.test_gaussian_formats import scene as gaussians

from .conftest import REPO, call_tool

_SPLAT_CONFIG = REPO / "configs/gaussian_splatting/3dgs_colmap_cpu.py"


def _break(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _refusal(call, capsys) -> str:
    """The line with which a command ends."""
    with pytest.raises(SystemExit) as stop:
        cli.run_command(call)
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: "), lines
    return lines[-1]


def _names(folder, pattern="*.png") -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob(pattern))


@pytest.fixture(autouse=True)
def _plain_errors(monkeypatch):
    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)


def test_views_are_tested_rendered_and_scored_without_the_broken_one(run_tool, tmp_path, capsys):
    write_scene(tmp_path / "scene", count=17)  # every eighth is a test view: 000, 008, 016
    _break(tmp_path / "scene/images/008.png")
    steps = {"max_iters": 2, "val_interval": 2}
    options = {f"train_cfg.{name}": value for name, value in steps.items()}
    options |= {"param_scheduler.0.end": 2, "default_hooks.checkpoint.interval": 2}
    options |= {"data_root": tmp_path / "scene", "model.resolution_schedule": "[(0,1)]"}
    run, checkpoint = tmp_path / "run", tmp_path / "run/iter_2.pth"

    line = _refusal(lambda: run_tool("train", _SPLAT_CONFIG, "--work-dir", run, **options), capsys)
    assert "1 of 3 samples failed, the others are done" in line and "008.png" in line
    assert checkpoint.is_file()  # the run itself is complete

    words = ("--work-dir", run, "--out", tmp_path / "m.json", "--dump", tmp_path / "dump")
    line = _refusal(lambda: run_tool("test", _SPLAT_CONFIG, checkpoint, *words, **options), capsys)
    assert "1 of 3 samples failed" in line and "008.png" in line
    assert json.loads((tmp_path / "m.json").read_text())["test/n_images"] == 2
    assert _names(tmp_path / "dump", "*.npz") == ["000.npz", "016.npz"]

    words = ("--out", tmp_path / "views")
    line = _refusal(
        lambda: run_tool("render_views", _SPLAT_CONFIG, checkpoint, *words,
                         data_root=tmp_path / "scene"),
        capsys,
    )  # fmt: skip
    assert "1 of 3 views failed" in line and "008.png" in line
    assert _names(tmp_path / "views/test/renders") == ["000.png", "016.png"]

    (tmp_path / "views/test/gt/000.png").unlink()
    shutil.copytree(tmp_path / "views/test", tmp_path / "views/again")
    folders = [tmp_path / "views/test", tmp_path / "views/none", tmp_path / "views/again"]
    score = "tools/analysis_tools/score_renders.py"
    line = _refusal(lambda: call_tool(score, *folders), capsys)
    assert "3 of 3 folders failed" in line and "gt/000.png" in line
    for folder in (folders[0], folders[2]):
        assert list(json.loads((folder / "per_view.json").read_text())) == ["016.png"]

    _break(tmp_path / "dump/000.npz")
    visualize = ("tools/visualize.py", tmp_path / "dump", "--out", tmp_path / "drawn")
    line = _refusal(lambda: call_tool(*visualize), capsys)
    assert "1 of 2 results failed" in line and "000.npz" in line
    assert _names(tmp_path / "drawn") == ["contact_sheet_00.png"]


def test_scales_of_depth_maps_are_fitted_without_the_broken_one(tmp_path, capsys):
    write_scene(tmp_path, count=3, points=60)
    for row in range(3):
        path = tmp_path / f"depths/{row:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(row)[..., 1].astype(np.uint16) * 100).save(path)
    _break(tmp_path / "depths/001.png")

    words = ("tools/fit_depth_scale.py", tmp_path, "--depth-dir", "depths")
    line = _refusal(lambda: call_tool(*words), capsys)

    assert "1 of 3 depth maps failed" in line and "001.png" in line
    fitted = json.loads((tmp_path / "sparse/0/depth_params.json").read_text())
    assert sorted(fitted) == ["000", "002"]


def test_depth_is_estimated_for_all_pictures_that_can_be_read(tmp_path):
    from mmcity.apis.streaming.depth_estimators import DepthEstimator

    class Brightness(DepthEstimator):
        def estimate(self, image, path):
            return image.mean(-1)

    write_scene(tmp_path, names=["a/0.png", "b/0.png", "c.png"])
    _break(tmp_path / "images/a/0.png")

    with pytest.raises(cli.UserError, match=r"1 of 3 pictures failed.*a/0\.png"):
        Brightness().write(tmp_path / "images", tmp_path / "depths")

    assert _names(tmp_path / "depths") == ["b/0.png", "c.png"]


def test_reduced_copies_hold_all_pictures_that_can_be_read(tmp_path, capsys):
    write_scene(tmp_path / "scene", count=3)
    _break(tmp_path / "scene/images/000.png")

    tool = "tools/dataset_converters/reduce_colmap.py"
    words = (tool, tmp_path / "scene", tmp_path / "small", "--long-side", 20)
    line = _refusal(lambda: call_tool(*words), capsys)

    assert "1 of 3 pictures failed" in line and "000.png" in line
    assert _names(tmp_path / "small/images") == ["001.png", "002.png"]


def test_poses_of_missing_images_are_left_out(tmp_path, capsys):
    from mmcity.datasets import ColmapDataset

    lines = []
    for row in range(4):
        name = f"seq-01/frame-{row:06d}.color.png"
        path = tmp_path / "chess" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if row != 1:
            Image.new("RGB", (64, 48)).save(path)
        lines.append(f"{name} 0 1 0 0 {row} 2 3 52.5\n")
    (tmp_path / "train.txt").write_text("".join(lines[:3]))
    (tmp_path / "test.txt").write_text(lines[3])

    tool = "tools/dataset_converters/seven_scenes_sfm.py"
    words = (tool, tmp_path / "chess", tmp_path / "out", "--poses", tmp_path / "train.txt")
    line = _refusal(lambda: call_tool(*words, "--test-poses", tmp_path / "test.txt"), capsys)

    assert "1 of 4 images failed" in line and "frame-000001" in line
    scene = ColmapDataset(tmp_path / "out", split="all", require_points=False)
    assert not any("000001" in name for name in scene.img_names)


def test_info_files_beside_a_broken_one_are_updated(tmp_path, capsys):
    from mmcity.datasets.io.info_pickle import load_info_pickle, save_info_pickle

    tables = tmp_path / "v1.0-mini"
    tables.mkdir()
    (tables / "scene.json").write_text('[{"token": "s", "name": "scene-0001"}]')
    (tables / "sample.json").write_text('[{"token": "t", "scene_token": "s"}]')
    (tmp_path / "nuscenes_infos_train.pkl").write_bytes(pickle.dumps([1, 2])[:-3])
    path = tmp_path / "nuscenes_infos_val.pkl"
    save_info_pickle({"metainfo": {}, "data_list": [{"token": "t"}]}, path)

    words = ("nuscenes", "--root-path", tmp_path, "--version", "v1.0-mini")
    line = _refusal(lambda: call_tool("tools/update_data.py", *words), capsys)

    assert "1 of 2 info files failed" in line and "infos_train.pkl" in line
    assert load_info_pickle(path)["data_list"][0]["scene_idx"] == "scene-0001"


def test_layers_beside_a_broken_file_are_listed(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("a.ply", "b.ply"):
        gaussians(60, degree=0).write_ply(folder / name)
    _break(folder / "b.ply")
    np.savez(tmp_path / "clip.npz", voxels=np.zeros((2, 4, 4, 2), np.uint8))
    _break(tmp_path / "clip.npz")

    words = ("tools/viewer.py", folder, tmp_path / "clip.npz", folder / "a.ply", "--check")
    with pytest.raises(SystemExit):
        cli.run_command(lambda: call_tool(*words))
    printed = capsys.readouterr()

    assert [line.split()[1] for line in printed.out.splitlines()] == ["run/a", "run/a"]
    assert "2 of " in printed.err and "b.ply" in printed.err and "clip.npz" in printed.err


def test_numbers_of_clips_and_runs_count_those_that_can_be_read(tmp_path, capsys):
    for name in ("0", "1", "2"):
        voxels = np.zeros((4, 8, 8, 2), np.uint8)
        voxels[:, 2:5, 2:5] = 1
        (tmp_path / "clips").mkdir(exist_ok=True)
        np.savez(tmp_path / f"clips/{name}.npz", voxels=voxels)
    _break(tmp_path / "clips/1.npz")
    words = ("tools/analysis_tools/clip_consistency.py", tmp_path / "clips")
    line = _refusal(lambda: call_tool(*words), capsys)
    assert "1 of 3 clips failed" in line and "1.npz" in line

    run_of([0.1] * 3, [0.5] * 3, label="full").write(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/results.json").write_text("{")
    words = (tmp_path / "a", tmp_path / "b", "--out", tmp_path / "table.md")
    line = _refusal(lambda: call_tool("tools/localization_table.py", *words), capsys)
    assert "1 of 2 results failed" in line and "b/results.json" in line
    assert "| full " in (tmp_path / "table.md").read_text()


def test_maps_are_made_of_all_images_that_can_be_read(tmp_path):
    from mmcity.apis.occupancy.foundation_maps import ImageTask, generate_targets
    from mmcity.datasets.io.map_store import MapStore

    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{name}.png")
    _break(tmp_path / "a.png")
    names = ("a", "b", "c", "gone")
    tasks = [ImageTask(str(tmp_path / f"{name}.png"), np.eye(3)) for name in names]
    store = MapStore(tmp_path / "maps", "float16")

    with pytest.raises(cli.UserError, match=r"2 of 4 images failed.*a\.png.*gone\.png"):
        generate_targets(tasks, lambda: lambda image, task: image[..., 0], store)

    assert _names(tmp_path / "maps", "*.npy") == ["b.npy", "c.npy"]


def test_frames_behind_a_broken_picture_are_streamed(tmp_path):
    from mmcity.apis import StreamingReconstructor, open_source
    from mmcity.apis.streaming import GeometryPrior
    from mmcity.datasets.io.colmap_model import read_colmap_model
    from tests.models.streamvggt.tiny import tiny_model

    folder = tmp_path / "film"
    folder.mkdir()
    for row in range(5):
        size = (40, 60) if row == 2 else (60, 40)
        Image.fromarray(picture(row, *size)).save(folder / f"{row}.png")
    _break(folder / "1.png")

    # The rhythm of every second frame does not shift.
    source = open_source(folder, stride=2, max_frames=2)
    assert [next(source).name, next(source).name] == ["0", "2"]
    with pytest.raises(cli.UserError, match=r"1 of 4 pictures failed.*1\.png"):
        next(source)
    (folder / "1.png").unlink()
    model = StreamingReconstructor(tiny_model(), device="cpu", image_size=42, resize="eval")
    prior = GeometryPrior(model)
    with pytest.raises(cli.UserError, match="1 of 4 frames failed.*frame 2: expected one size"):
        prior.write(folder, tmp_path / "depths", tmp_path / "sparse")
    assert _names(tmp_path / "depths") == ["0.png", "3.png", "4.png"]
    placed = [image.name for image in read_colmap_model(tmp_path / "sparse").images.values()]
    assert placed == ["0.png", "3.png", "4.png"]


class _Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, row):
        if row == 1:
            raise ValueError("broken.png: expected an image")
        return row


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_go_on_behind_a_sample_that_fails(batch_size, workers):
    from mmcity.engine.loops import SoundBatches

    loader = torch.utils.data.DataLoader(
        _Samples(), batch_size, collate_fn=list, num_workers=workers
    )
    batches = SoundBatches(loader)

    for _ in range(2):
        assert [row for batch in batches for row in batch] == [0, 2, 3, 4]
        assert batches.failures.total == 5 and len(batches) == len(loader)
    assert list(batches.failures.reasons) == ["sample 1"]
