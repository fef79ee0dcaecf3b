"""Faults that users of such toolboxes report, as whole commands on inputs like theirs.

``TESTS`` says where the suite holds each report; what has no better home stands here.
"""

import ast
import json
import math
import os
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from mmcity.datasets import ColmapDataset, NuScenesOccDataset
from mmcity.datasets.io.colmap_model import write_colmap_model
from mmcity.datasets.io.info_pickle import InfoFileError
from mmcity.datasets.transforms import BEVLoadMultiViewImageFromFiles, LoadOccFromFile
from mmcity.utils import cli
from tests.datasets.scenes import make_model, picture, write_scene
from tests.structures.io.test_gaussian_formats import scene as gaussians

from .conftest import REPO, call_tool

#: What users reported, and the tests that hold it.
TESTS = """
images.txt without its second lines
    datasets/test_files_of_other_programs.py::test_lines_of_images_are_read_as_what_they_are
cameras of a rig in sub-folders, rendered
    cli/test_field_faults.py::test_views_of_a_rig_are_all_rendered_and_scored
cameras of a rig in sub-folders, with depth priors
    datasets/test_files_of_other_programs.py::test_priors_of_a_rig_keep_their_own_scales
the larger model in sparse/1
    datasets/test_files_of_other_programs.py::test_the_largest_of_several_models_is_taken
    datasets/test_files_of_other_programs.py::test_other_models_are_named
coordinates of UTM
    engine/test_georeferenced_scenes.py::test_the_figures_are_those_of_the_scene_about_the_origin
    engine/test_georeferenced_scenes.py::test_the_checkpoint_tells_where_the_scene_lies
    engine/test_georeferenced_scenes.py::test_exports_keep_a_known_point
    datasets/test_world_offset.py::test_a_far_scene_is_the_near_one_to_rounding
    models/rap/test_training.py::test_a_network_that_does_not_know_where_its_images_lie_is_refused
grey pictures of 16 bits, palettes, CMYK, floats
    utils/test_picture_files.py::test_the_range_of_values_does_not_change_the_picture
photographs that EXIF turns
    apis/streaming/test_streaming_reconstructor.py::test_photographs_are_turned_upright_and_keep_their_names_apart
frames without leading zeros
    apis/streaming/test_streaming_reconstructor.py::test_frames_come_in_the_order_of_their_numbers
masks with nothing left
    cli/test_field_faults.py::test_an_empty_mask_spoils_neither_training_nor_the_means
SPZ of newer versions
    structures/io/test_gaussian_files_of_others.py::test_later_versions_of_spz_are_refused
a PLY with a few NaN
    structures/io/test_gaussian_files_of_others.py::test_invalid_gaussians_can_be_left_out
glTF placed by a parent, with compression
    structures/io/test_gaussian_files_of_others.py::test_parents_place_their_children
    structures/io/test_gaussian_files_of_others.py::test_what_a_file_requires_and_is_not_read_is_named
longitudes west of Greenwich
    cli/test_mmcity_command.py::test_values_may_begin_with_a_dash
text saved on Windows
    cli/test_field_faults.py::test_text_saved_on_windows_reads_alike
straight and standing paths
    evaluation/test_items_without_a_value.py::test_straight_paths_have_errors
    evaluation/test_items_without_a_value.py::test_paths_that_cannot_be_aligned_are_skipped_by_name
pictures of several sizes in a stream
    cli/test_field_faults.py::test_a_stream_of_several_sizes_names_the_picture
one portrait among the queries
    apis/localization/test_queries.py::test_a_query_that_cannot_be_tried_loses_no_other
queries with blanks, in sub-folders
    apis/localization/test_queries.py::test_queries_are_told_apart_by_their_folders
    apis/localization/test_queries.py::test_intrinsics_of_names_with_blanks_and_pictures_held_upright
info files of other versions
    cli/test_field_faults.py::test_info_files_of_other_versions_work_or_are_named
fewer poses than frames
    datasets/test_files_of_other_programs.py::test_clips_have_a_pose_for_each_frame
option values that look like numbers
    engine/test_config_check.py::test_texts_follow_the_type_of_the_old_value
a model without points
    datasets/test_files_of_other_programs.py::test_a_model_without_points_gives_its_cameras
    cli/test_field_faults.py::test_cameras_without_points_are_shown
two or three pictures
    cli/test_field_faults.py::test_few_pictures_train_and_score
tiny, black and mixed pictures
    cli/test_field_faults.py::test_odd_pictures_give_finite_numbers_or_one_line
bad input to converters
    cli/test_field_faults.py::test_refused_input_is_one_line
paths with blanks and umlauts, moved runs, links
    cli/test_field_faults.py::test_runs_in_folders_with_odd_names_and_moved_ones
"""


def _tests_of_reports() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in TESTS.strip().splitlines():
        if not line.startswith(" "):
            found[line] = places = []
        else:
            places.append(line.strip())
    return found


@pytest.mark.parametrize(("report", "places"), _tests_of_reports().items())
def test_each_report_has_its_tests(report, places):
    assert places
    for place in places:
        file, _, name = place.partition("::")
        tree = ast.parse((REPO / "tests" / file).read_text(encoding="utf-8"))
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, place


# ------------------------------------------------------------------ training and rendering

_SPLAT_CONFIG = REPO / "configs/gaussian_splatting/3dgs_colmap_cpu.py"
_CITY_CONFIG = REPO / "configs/citygsx/citygsx_colmap_cpu.py"


def _short(steps: int) -> dict[str, object]:
    return {
        "train_cfg.max_iters": steps,
        "train_cfg.val_interval": steps,
        "param_scheduler.0.end": steps,
        "default_hooks.checkpoint.interval": steps,
        "model.resolution_schedule": "[(0,1)]",
        "env_cfg.mp_cfg.mp_start_method": "fork",
    }


def _refuse(word):
    raise AssertionError(f"{word} is no JSON")


def _metrics(path) -> dict:
    """Numbers of a metrics file, read as strict readers do."""
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)


def test_views_of_a_rig_are_all_rendered_and_scored(run_tool, tmp_path):
    names = [f"cam{camera}/{row:04d}.png" for camera in range(2) for row in range(5)]
    write_scene(tmp_path / "scene", names=names)
    root = {"data_root": tmp_path / "scene"}
    run_tool("train", _SPLAT_CONFIG, "--work-dir", tmp_path / "run", **root, **_short(2))

    checkpoint = tmp_path / "run/iter_2.pth"
    words = ("--out", tmp_path / "views", "--splits", "train", "test")
    run_tool("render_views", _SPLAT_CONFIG, checkpoint, *words, **root)
    call_tool("tools/analysis_tools/score_renders.py", tmp_path / "views/train")

    for kind in ("renders", "gt", "depths", "normals"):
        files = (tmp_path / "views").glob(f"*/{kind}/*/*.png")
        found = {"/".join(file.parts[-2:]) for file in files}
        assert found == set(names)
    scored = _metrics(tmp_path / "views/train/per_view.json")
    trained = [name for name in names if (tmp_path / "views/train/gt" / name).is_file()]
    assert sorted(scored) == trained and len(trained) == 8


def test_an_empty_mask_spoils_neither_training_nor_the_means(run_tool, tmp_path):
    model = write_scene(tmp_path, count=9)
    for row, image in enumerate(model.images.values()):
        path = tmp_path / "masks" / image.name
        path.parent.mkdir(exist_ok=True)
        # Of the test images (every eighth) the first has nothing left.
        Image.fromarray(np.full((30, 40), 255 * (row not in (0, 1)), np.uint8)).save(path)
    options = {f"{part}_dataloader.dataset.mask_dir": "masks" for part in ("train", "val", "test")}
    options |= {"data_root": tmp_path}

    run_tool("train", _SPLAT_CONFIG, "--work-dir", tmp_path / "run", **options, **_short(6))
    words = ("--work-dir", tmp_path / "run", "--out", tmp_path / "m.json")
    run_tool("test", _SPLAT_CONFIG, tmp_path / "run/iter_6.pth", *words, **options)

    numbers = _metrics(tmp_path / "m.json")
    assert math.isfinite(numbers["test/psnr"]) and math.isfinite(numbers["test/ssim"])
    assert numbers["test/n_images"] == 1


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("config", [_SPLAT_CONFIG, _CITY_CONFIG], ids=["3dgs", "citygsx"])
def test_few_pictures_train_and_score(run_tool, tmp_path, config, count):
    write_scene(tmp_path / "scene", count=count, points=60)
    options = {"data_root": tmp_path / "scene", **_short(4)}
    if config == _CITY_CONFIG:
        starts = ("multi_view_weight", "single_view_weight", "dpt_loss")
        options |= {f"model.objective.{name}_from_iter": 2 for name in starts}
        options |= {"model.objective.dpt_end_iter": 4}

    run_tool("train", config, "--work-dir", tmp_path / "run", **options)

    (log,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    last = json.loads(log.read_text().splitlines()[-1])
    assert 0 < next(value for key, value in last.items() if key.endswith("psnr")) < 60


def _mixed_sizes(root) -> None:
    """Two cameras, one of them upright; their pictures have numbers with gaps."""
    first = make_model(names=[f"a{row}.png" for row in range(5)])
    second = make_model(names=[f"b{row}.png" for row in range(5)])
    camera = first.cameras[3]
    upright = type(camera)(77, "PINHOLE", 30, 40, [50.0, 52.0, 14.0, 20.5])
    first.cameras[77] = upright
    for number, image in second.images.items():
        image.camera_id, image.image_id = 77, number + 90
        image.point3D_ids = np.full_like(image.point3D_ids, -1)
        first.images[number + 90] = image
    write_colmap_model(first, root / "sparse/0")
    for row, image in enumerate(first.images.values()):
        size = (40, 30) if image.camera_id == 3 else (30, 40)
        path = root / "images" / image.name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(row, *size)).save(path)


@pytest.mark.parametrize("kind", ["tiny", "line", "black", "mixed"])
def test_odd_pictures_give_finite_numbers_or_one_line(run_tool, tmp_path, kind):
    root = tmp_path / "scene"
    if kind == "mixed":
        _mixed_sizes(root)
    else:
        sizes = {"tiny": (8, 6), "line": (64, 1), "black": (40, 30)}
        model = make_model(count=9)
        camera = model.cameras[3]
        camera.width, camera.height = sizes[kind]
        write_colmap_model(model, root / "sparse/0")
        for row, image in enumerate(model.images.values()):
            path = root / "images" / image.name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture(row, *sizes[kind]) * (kind != "black")).save(path)
    options = {"data_root": root, "train_dataloader.batch_size": 2}
    options |= {"train_dataloader.sampler.batch_size": 2, **_short(3)}
    words = ("train", _SPLAT_CONFIG, "--work-dir", tmp_path / "run")

    if kind in ("tiny", "line"):
        with pytest.raises(ValueError, match="at least 11 pixels"):
            run_tool(*words, **options)
        return
    run_tool(*words, **options)
    (log,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    values = [v for line in log.read_text().splitlines() for v in json.loads(line).values()]
    assert all(math.isfinite(v) for v in values if isinstance(v, float))


def test_runs_in_folders_with_odd_names_and_moved_ones(run_tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "Meine Daten #2" / "Küche 客厅"
    write_scene(work / "capture", names=[f"Bild ä {row} (1).PNG" for row in range(8)])
    os.symlink(work / "capture", "link")

    run_tool("train", _SPLAT_CONFIG, "--work-dir", "läufe/run 1", **_short(2),
             data_root="Meine Daten #2/Küche 客厅/capture")  # fmt: skip
    shutil.move("läufe/run 1", "läufe/moved")
    options = {**_short(2), "train_cfg.max_iters": 4, "data_root": "link"}
    run_tool("train", _SPLAT_CONFIG, "--work-dir", "läufe/moved", "--resume", **options)
    run_tool("test", _SPLAT_CONFIG, "läufe/moved/iter_2.pth", "--work-dir", "läufe/t",
             "--out", "läufe/m.json", "--dump", "läufe/d u m p", data_root="link")  # fmt: skip
    call_tool("tools/export.py", "läufe/moved/scene.ply", "läufe/capture ü.spz")
    call_tool("tools/viewer.py", "läufe/capture ü.spz", "link", "--check")

    assert (tmp_path / "läufe/moved/iter_4.pth").is_file()
    assert _metrics(tmp_path / "läufe/m.json")["test/n_images"] == 1
    assert [file.name for file in (tmp_path / "läufe/d u m p").glob("*.npz")] == [
        "Bild ä 0 (1).npz"
    ]
    assert "cameras" in capsys.readouterr().out


# ------------------------------------------------------------------ files


def _windows(path) -> None:
    """Save a text file as editors of Windows do."""
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))


@pytest.mark.parametrize("has_comments", [True, False])
def test_text_saved_on_windows_reads_alike(tmp_path, has_comments):
    from mmcity.apis import read_pose_file
    from mmcity.apis.localization.queries import read_intrinsics
    from mmcity.datasets import NerfstudioDataset
    from mmcity.datasets.colmap import read_depth_params
    from mmcity.structures import Trajectory

    frame = {"file_path": "images\\000.png", "transform_matrix": np.eye(4).tolist()}
    files = {
        "transforms.json": json.dumps({"fl_x": 60, "w": 40, "h": 30, "frames": [frame]}),
        "depth_params.json": '{"a": {"scale": 1, "offset": 0}}',
        "tum.txt": "# timestamp\n0 1 2 3 0 0 0 1\n1 2 3 4 0 0 0 1\n",
        "kitti.txt": "1 0 0 0 0 1 0 0 0 0 1 0\n" * 3,
        "poses.txt": "# name\na.png 1 0 0 0 0 0 0\n",
        "intrinsics.txt": "# name\na.png PINHOLE 64 48 60 60 32 24\n",
    }
    write_scene(tmp_path, ext=".txt")
    model = {f"sparse/0/{name}.txt": (tmp_path / f"sparse/0/{name}.txt").read_text()
             for name in ("cameras", "images", "points3D")}  # fmt: skip
    for name, text in {**files, **model}.items():
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if has_comments or not line.startswith("#")]
        (tmp_path / name).write_text("".join(kept))
        _windows(tmp_path / name)

    assert len(ColmapDataset(tmp_path, split="all")) == 6
    assert NerfstudioDataset(tmp_path, split="all").img_names == ["images/000.png"]
    assert read_depth_params(tmp_path / "depth_params.json") == {"a": (1, 0)}
    assert Trajectory.read_tum(tmp_path / "tum.txt").centers[0].tolist() == [1, 2, 3]
    assert len(Trajectory.read_kitti(tmp_path / "kitti.txt")) == 3
    assert list(read_pose_file(tmp_path / "poses.txt")) == ["a.png"]
    assert list(read_intrinsics(tmp_path / "intrinsics.txt")) == ["a.png"]


@pytest.mark.parametrize("points", ["none", "empty", "ply"])
def test_cameras_without_points_are_shown(tmp_path, points, capsys):
    from mmcity.datasets.io.point_ply import write_point_ply

    model = write_scene(tmp_path, ext=".txt")
    (tmp_path / "sparse/0/points3D.txt").unlink()
    if points == "empty":
        (tmp_path / "sparse/0/points3D.txt").write_text("# no points\n")
    if points == "ply":
        path = tmp_path / "sparse/0/points3D.ply"
        write_point_ply(path, model.points3D.xyz, model.points3D.rgb)

    call_tool("tools/viewer.py", tmp_path, "--check")

    lines = [line for line in capsys.readouterr().out.splitlines() if "mmengine - " not in line]
    layers = [line.split()[0] for line in lines if line]
    assert layers == ["cameras", *["points"] * (points == "ply")]
    assert len(ColmapDataset(tmp_path, split="all", require_points=False)) == 6


def _info_file(root, **changes) -> NuScenesOccDataset:
    """Data set of one key frame whose six pictures lie below ``root``."""
    cameras = [f"CAM_{n}" for n in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK", "BACK_LEFT",
                                    "BACK_RIGHT")]  # fmt: skip
    form = changes.pop("form", "{name}")
    images = {}
    for camera in cameras:
        path = root / "samples" / camera / "1.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
        place = form.format(name="1.jpg", camera=camera, root=root)
        images[camera] = {"img_path": place, "cam2img": np.eye(3), "cam2ego": np.eye(4)}
    info = {"token": "t", "scene_idx": "scene-0001", "images": images}
    info = {key: value for key, value in {**info, **changes}.items() if value is not None}
    (root / "infos.pkl").write_bytes(pickle.dumps({"metainfo": {}, "data_list": [info]}))
    return NuScenesOccDataset("infos.pkl", str(root), pipeline=[BEVLoadMultiViewImageFromFiles()])


def test_info_files_of_other_versions_work_or_are_named(tmp_path):
    assert len(_info_file(tmp_path)[0]["img"]) == 6
    assert len(_info_file(tmp_path, form="{root}/samples/{camera}/{name}")[0]["img"]) == 6
    with pytest.raises(FileNotFoundError, match=r"samples/CAM_FRONT/gone\.jpg: expected an image"):
        _info_file(tmp_path, form="gone.jpg")[0]
    with pytest.raises(InfoFileError, match="expected 'scene_idx' of 't': run mmcity data update"):
        _info_file(tmp_path, scene_idx=None)[0]
    with pytest.raises(FileNotFoundError, match=r"gts/scene-0001/t/labels\.npz"):
        LoadOccFromFile()(_info_file(tmp_path)[0])
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps({"infos": [], "metadata": {}}))
    with pytest.raises(InfoFileError, match=r"infos\.pkl: expected a dict with .* 'data_list'"):
        NuScenesOccDataset("infos.pkl", str(tmp_path))


# ------------------------------------------------------------------ commands


def test_a_stream_of_several_sizes_names_the_picture(tmp_path):
    from mmcity.apis import SourceError, StreamingReconstructor
    from tests.models.streamvggt.tiny import tiny_model

    for row, size in enumerate([(60, 40), (60, 40), (40, 60)]):
        Image.fromarray(picture(row, *size)).save(tmp_path / f"{row:03d}.png")

    found = StreamingReconstructor(tiny_model(), device="cpu", image_size=42)(tmp_path)

    assert [next(found).name, next(found).name] == ["000", "001"]
    with pytest.raises((SourceError, cli.UserError), match="002.*pad"):
        next(found)


def _upright_among_others(root):
    for row, size in enumerate([(40, 30), (40, 30), (30, 40)]):
        path = root / f"photos/{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(row, *size)).save(path)
    return ["dataset_converters/images_to_colmap", root / "photos", root / "out"]


def _positions_of_others(root):
    write_scene(root / "scene")
    text = "name,latitude,longitude,height\nA.JPG,47.1,8.1,400\nB.JPG,47.2,8.2,401\n"
    (root / "gps.csv").write_text(text)
    return ["dataset_converters/align_scene", root / "scene", "--positions", root / "gps.csv"]


def _intrinsics(line):
    def make(root):
        write_scene(root / "scene")
        gaussians(60, degree=0).write_ply(root / "scene.ply")
        (root / "cameras.txt").write_text(line)
        return ["localize", root / "scene", "--map", root / "scene.ply", "--out", root / "out",
                "--intrinsics", root / "cameras.txt", "--limit", "1"]  # fmt: skip

    return make


def _arrays_of_something(root):
    np.savez(root / "other.npz", something=np.zeros(3))
    return ["viewer", root / "other.npz", "--check"]


def _unknown_format(root):
    gaussians(60, degree=0).write_ply(root / "scene.ply")
    return ["export", root / "scene.ply", root / "x.xyz9"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_upright_among_others, ["30x40"]),
        (_positions_of_others, ["gps.csv"]),
        (_intrinsics("000.png OPENCV_FISHEYE 40 30 57 57 20 15 0.1 0 0 0\n"), ["cameras.txt"]),
        (_intrinsics("000.png PINHOLE 64\n"), ["cameras.txt", "line 1"]),
        (_arrays_of_something, ["other.npz"]),
        (lambda root: ["export", root / "gone.ply", root / "x.spz"], ["gone.ply"]),
        (_unknown_format, ["xyz9"]),
    ],
    ids=["upright", "positions", "fisheye", "broken", "arrays", "gone", "format"],
)  # fmt: skip
def test_refused_input_is_one_line(tmp_path, make, words, capsys, monkeypatch):
    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)
    tool, *args = make(tmp_path)

    with pytest.raises(SystemExit) as stop:
        cli.run_command(lambda: call_tool(f"tools/{tool}.py", *args))

    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code in (1, 2) and lines[-1].startswith("error: ")
    assert all(word in lines[-1] for word in words), lines[-1]


# ------------------------------------------------------------------ files of any content


_SUFFIXES = ("ply", "npz", "glb", "gltf", "spz", "splat", "json", "txt", "obj", "stl", "pkl")


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 2 + b"x"], ids=["empty", "junk"])
@pytest.mark.parametrize("suffix", [*_SUFFIXES, "py", "yaml"])
def test_whatever_a_file_holds_the_answer_is_one_line(
    tmp_path, suffix, content, capsys, monkeypatch
):
    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)
    path = tmp_path / f"odd.{suffix}"
    path.write_bytes(content)
    calls = [("viewer", path, "--check"), ("export", path, tmp_path / "out.ply")]
    calls.append(("analysis_tools/score_mesh", path, path, "--threshold", 1))
    if suffix in ("py", "yaml", "json"):
        calls = [("train", path, "--work-dir", tmp_path)]
    for tool, *words in calls:
        with pytest.raises(SystemExit) as stop:
            cli.run_command(lambda tool=tool, words=words: call_tool(f"tools/{tool}.py", *words))
        lines = capsys.readouterr().err.strip().splitlines()
        assert stop.value.code in (1, 2) and lines[-1].startswith("error: "), lines
        assert path.name in lines[-1]


def test_what_the_code_of_a_config_raises_is_told_with_its_file(tmp_path):
    from mmcity.engine.config_check import ConfigError
    from mmcity.engine.launch import load_config

    path = tmp_path / "mine.py"
    path.write_text("model = dict(type=nothing)\n")
    with pytest.raises(ConfigError, match=r"mine\.py: .* NameError: name 'nothing'"):
        load_config(path)
    path.write_text("data_root = 'x'\n")
    with pytest.raises(ConfigError, match=r"mine\.py: expected a config with a model"):
        call_tool("tools/train.py", path, "--work-dir", tmp_path)


def test_keys_that_a_config_lacks_are_told(capsys, monkeypatch):
    from mmcity.datasets.transforms import PackOccInputs

    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)
    pack = PackOccInputs(conditions=("trajectory",))
    with pytest.raises(SystemExit):
        cli.run_command(lambda: pack.transform({"voxels": np.zeros((1, 2, 2, 2), np.uint8)}))
    assert "expected 'trajectory': add the transform" in capsys.readouterr().err


# ------------------------------------------------------------------ names


def test_files_whose_accents_are_letters_of_their_own_are_found(tmp_path):
    from unicodedata import normalize

    from mmcity.datasets import NerfstudioDataset

    names = [f"cam{camera}/Küche {row}.png" for camera in range(2) for row in range(3)]
    write_scene(tmp_path, names=names)
    for file in list((tmp_path / "images").rglob("*.png")):
        file.rename(file.with_name(normalize("NFD", file.name)))
    listed = f'"cam1/Küche 1.png"\r\ncam0\\{normalize("NFD", "Küche 2.png")}\r\n'
    (tmp_path / "list_test.txt").write_bytes(listed.encode("utf-8-sig"))

    call_tool("tools/export.py", tmp_path, tmp_path / "transforms.json")

    test = ["cam0/Küche 2.png", "cam1/Küche 1.png"]
    assert ColmapDataset(tmp_path, split="test").img_names == test
    (tmp_path / "list_test.txt").unlink()
    frames = NerfstudioDataset(tmp_path, split="all")
    assert sorted(frames.img_names) == [f"images/{name}" for name in names]


@pytest.mark.parametrize("parting", [",", ";", "\t"])
def test_positions_of_any_table_program_are_read(tmp_path, parting):
    from mmcity.datasets.alignment import read_positions

    rows = [("name", "x", "y", "z"), ("a.png", "1", "2", "3"), ("b c.png", "4", "5", "6")]
    path = tmp_path / "gps.csv"
    path.write_bytes("\r\n".join(map(parting.join, rows)).encode("utf-8-sig"))

    table, kind = read_positions(path)

    assert kind == "metric" and table["b c.png"].tolist() == [4, 5, 6]
    path.write_text(path.read_text(encoding="utf-8-sig").replace("5", "nan"))
    with pytest.raises(ValueError, match=r"gps\.csv: expected finite numbers.*b c\.png"):
        read_positions(path)


def test_sequences_whose_joined_names_clash_are_refused(tmp_path):
    from mmcity.datasets.converters import convert_cambridge_landmarks

    head = "h\nh\n\n"
    poses = " 0 0 1 1 0 0 0\n"
    for name in ("seq1/a_b.png", "seq1_a/b.png", "seq 2/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    (tmp_path / "dataset_train.txt").write_text(f"{head}seq1/a_b.png{poses}")
    (tmp_path / "dataset_test.txt").write_text(f"{head}seq 2/c.png{poses}")
    cameras = [
        f"{n} 50 1 0 0 0 0 0 0 0 0\n" for n in ("seq1/a_b.jpg", "seq 2/c.jpg", "seq1_a/b.jpg")
    ]
    (tmp_path / "reconstruction.nvm").write_text(f"NVM_V3\n\n3\n{''.join(cameras)}\n0\n")
    assert convert_cambridge_landmarks(tmp_path, tmp_path / "out")["test"] == (1, 0)
    assert (tmp_path / "out/test/rgb/seq 2_c.jpg").is_file()

    (tmp_path / "dataset_test.txt").write_text(f"{head}seq1_a/b.png{poses}")
    with pytest.raises(ValueError, match=r"seq1_a_b\.jpg: .*'.*seq1/a_b\.png' and '.*seq1_a/b"):
        convert_cambridge_landmarks(tmp_path, tmp_path / "again")


def test_info_files_of_windows_lead_to_their_pictures(tmp_path):
    scene = _info_file(tmp_path, form=".\\{name}")
    assert len(scene[0]["img"]) == 6
