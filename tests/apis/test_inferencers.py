"""What the five inferencers share: config by path and name, local weights, refused arguments."""

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from torch import nn

from mmcity.apis import (
    FrameResult,
    GeneratedClips,
    Inferencer,
    LocalizationResult,
    Localizer,
    OccupancyGenerator,
    OccupancyPredictor,
    OccupancyResult,
    RenderedViews,
    SceneRenderer,
    StreamingReconstructor,
)
from mmcity.datasets.converters.nuscenes import convert_nuscenes
from mmcity.engine.checkpointing import (
    CheckpointError,
    load_checkpoint_weights,
    load_weights,
    replace_rows,
    scene_tables,
    write_shard,
)
from mmcity.engine.launch import as_config, load_config
from mmcity.models.dynamiccity import DPMSolverSampler
from mmcity.registry import INFERENCERS, MODELS
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_nuscenes
from mmcity.utils import register_all_modules
from mmcity.utils.config_index import find_config
from tests.devices import DEVICE
from tests.models.gaussian_splatting.helpers import points_and_colors, ring_of_cameras


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Work folder, with the data that configs of the toy town name by ``data/toytown``."""
    register_all_modules()
    folder = tmp_path_factory.mktemp("inferencers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def drives(folder):
    """Two key frames of a car's six cameras in the layout of nuScenes."""
    root = folder / "data" / "toytown" / "nuscenes"
    town = ToytownConfig(seed=3, blocks=(1, 1))
    sizes = dict(num_scenes=2, num_frames=1, sweeps=False, feature_patch=4)
    write_nuscenes(root, town, (200, 112), **sizes)
    convert_nuscenes(root, version="v1.0-mini")
    return root


def save(model: nn.Module, path: Path) -> Path:
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return path


class SceneCase:
    """A scene of a few random splats, seen by a ring of cameras."""

    name, kind = "3dgs_toytown_cpu", SceneRenderer

    def checkpoint(self, folder: Path) -> Path:
        torch.manual_seed(0)
        model = MODELS.build(load_config(self.name).model)
        model.initialize(ring_of_cameras(), *points_and_colors())
        return save(model, folder / "scene.pth")

    def run(self, inferencer):
        cameras = ring_of_cameras(2)
        views = inferencer(cameras)
        assert isinstance(views, RenderedViews) and len(views.rgb) == 2
        width, height = cameras.one_size()
        shapes = dict(rgb=(3,), alpha=(), depth=(), normals=(3,))
        for field, channels in shapes.items():
            assert views[field][1].shape == (*channels, height, width)
        return views.rgb[0], inferencer.visualize(views), (height, 3 * width, 3)


class LocalizerCase:
    """A pose network alone, on a picture of noise."""

    name, kind = "rap_toytown_cpu", Localizer

    def checkpoint(self, folder: Path) -> Path:
        torch.manual_seed(0)
        model = MODELS.build(load_config(self.name).model)
        model.pose_scale.fill_(1)  # of the frame that PoseFrameHook fits
        return save(model, folder / "pose.pth")

    def run(self, inferencer):
        image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        K = np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]])
        (result,) = inferencer(image, K)
        assert isinstance(result, LocalizationResult)
        assert result.status == "low_confidence" and result.source == "regression"
        return result.camera.viewmats, inferencer.visualize(result, image), None


class StreamCase:
    """A student with random weights, on three pictures of noise."""

    name, kind = "streamvggt_toytown_cpu", StreamingReconstructor

    def checkpoint(self, folder: Path) -> Path:
        torch.manual_seed(0)
        return save(MODELS.build(load_config(self.name).model.student), folder / "stream.pth")

    def run(self, inferencer):
        pictures = np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), dtype=np.uint8)
        results = list(inferencer(pictures))
        assert all(isinstance(result, FrameResult) for result in results)
        assert [result.index for result in results] == [0, 1, 2]
        return results[2].depth, inferencer.visualize(results[2]), (48, 128, 3)


class OccupancyCase:
    """A GaussTR with random weights, on key frames of the toy town."""

    name, kind = "gausstr_toytown_cpu", OccupancyPredictor

    def checkpoint(self, folder: Path) -> Path:
        torch.manual_seed(0)
        return save(MODELS.build(load_config(self.name).model), folder / "occupancy.pth")

    def run(self, inferencer):
        result = inferencer(0)
        assert isinstance(result, OccupancyResult)
        assert result.labels.shape == result.grid.density.shape == (200, 200, 16)
        assert result.grid.extent[0].tolist() == [-40, -40, -1]
        assert result.sample.gt_occupancy.shape == result.labels.shape
        return result.labels, inferencer.visualize(result), (800, 800, 3)


class GeneratorCase:
    """A diffusion transformer with random weights, few steps."""

    name, kind = "dynamiccity_dit_toytown_cpu", OccupancyGenerator

    def checkpoint(self, folder: Path) -> Path:
        torch.manual_seed(0)
        return save(MODELS.build(load_config(self.name).model), folder / "generator.pth")

    def run(self, inferencer):
        inferencer.model.sampler = DPMSolverSampler(2)
        clips = inferencer(command="left", seed=3)
        assert isinstance(clips, GeneratedClips) and clips.seeds == [3]
        assert clips.labels.shape == (1, 4, 32, 32, 8) and clips.labels.dtype == torch.uint8
        pictures = inferencer.visualize(clips)
        assert len(pictures) == 4
        return clips.labels, pictures, (128, 128, 3)


CASES = [SceneCase(), LocalizerCase(), StreamCase(), OccupancyCase(), GeneratorCase()]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request, folder):
    """A case and the local checkpoint of its config."""
    if request.param.kind is OccupancyPredictor:
        request.getfixturevalue("drives")
    return request.param, request.param.checkpoint(folder)


def test_by_name_by_path_and_from_the_registry_with_a_local_checkpoint(case):
    case, checkpoint = case
    path = find_config(case.name)
    local = dict(checkpoint=checkpoint, device=DEVICE)
    made = [case.kind(config=config, **local) for config in (case.name, path, load_config(path))]
    made.append(INFERENCERS.build(dict(type=case.kind.__name__, config=case.name, **local)))
    first = None
    for inferencer in made:
        assert isinstance(inferencer, Inferencer)
        result, pictures, size = case.run(inferencer)
        first = result if first is None else first
        assert torch.equal(torch.as_tensor(result), torch.as_tensor(first))
        assert all(p.shape == size and p.dtype == np.uint8 for p in pictures)


def test_weights_that_do_not_fit_are_refused(case, tmp_path):
    case, checkpoint = case
    whole = torch.load(checkpoint, weights_only=True)["state_dict"]
    first = next(iter(whole))
    short = {key: value for key, value in whole.items() if key != first}
    torch.save({"state_dict": short}, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=rf"short.pth.*missing.*{first}"):
        case.kind(config=case.name, checkpoint=tmp_path / "short.pth", device=DEVICE)
    torch.save({"state_dict": {**whole, "surplus": torch.zeros(1)}}, tmp_path / "long.pth")
    with pytest.raises(CheckpointError, match="long.pth.*unknown.*surplus"):
        case.kind(config=case.name, checkpoint=tmp_path / "long.pth", device=DEVICE)
    with pytest.raises(FileNotFoundError, match=r"gone.pth"):
        case.kind(config=case.name, checkpoint=tmp_path / "gone.pth", device=DEVICE)


def test_misspelt_arguments_are_refused_with_the_known_ones(case):
    case, checkpoint = case
    with pytest.raises(TypeError, match=rf"{case.kind.__name__}: .*config, .*device.*got gadget"):
        case.kind(config=case.name, checkpoint=checkpoint, gadget="cpu")
    inferencer = case.kind(config=case.name, checkpoint=checkpoint, device=DEVICE)
    with pytest.raises(TypeError, match=rf"{case.kind.__name__}.__call__: expected .*got camras"):
        inferencer(camras=1)


def test_unknown_names_are_answered_with_alike_ones():
    assert find_config("3DGS_toytown_CPU").name == "3dgs_toytown_cpu.py"
    with pytest.raises(
        FileNotFoundError, match=r"3dgs_toytwn_cpu: .*did you mean 3dgs_toytown_cpu"
    ):
        SceneRenderer("3dgs_toytwn_cpu", "x.pth")


def test_a_config_may_be_of_the_model_alone():
    whole = as_config({"model": dict(type="GaussTR"), "data_root": "x"})
    alone = as_config(dict(type="GaussTR"))
    assert whole.model == alone.model and whole.data_root == "x"


def test_averaged_weights_are_taken_where_a_run_averaged(tmp_path):
    """Momentum 0.5 puts the average half way between the start and the end."""
    model = nn.Linear(2, 2)
    start = copy.deepcopy(model.state_dict())
    runner = SimpleNamespace(model=model, iter=0, epoch=0)
    hook = EMAHook(momentum=0.5)
    hook.before_run(runner)
    hook.after_train_iter(runner, 0)  # the first average is a copy
    with torch.no_grad():
        model.weight.add_(1)
    runner.iter = 1
    hook.after_train_iter(runner, 1)
    checkpoint = dict(state_dict=copy.deepcopy(model.state_dict()))
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / "iter_2.pth")
    weights = load_checkpoint_weights(tmp_path / "iter_2.pth")
    torch.testing.assert_close(weights["weight"], start["weight"] + 0.5)
    load_weights(model, weights, "iter_2.pth")


def test_published_files_may_keep_their_weights_under_model(tmp_path):
    torch.save({"model": {"weight": torch.ones(2)}, "epoch": 3}, tmp_path / "model.pt")
    assert load_checkpoint_weights(tmp_path / "model.pt").keys() == {"weight"}


def test_a_checkpoint_may_be_a_url(folder, monkeypatch, tmp_path):
    checkpoint = SceneCase().checkpoint(folder)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        "torch.hub.download_url_to_file",
        lambda url, target, progress: shutil.copy(checkpoint, target),
    )
    url = "https://example.org/models/scene.pth?download=true"
    renderers = [SceneRenderer("3dgs_toytown_cpu", c, "cpu") for c in (url, checkpoint)]
    first, second = (renderer(ring_of_cameras(1)).rgb[0] for renderer in renderers)
    assert torch.equal(first, second)


@pytest.fixture
def shard_folder(tmp_path):
    """A CityGSX scene as two processes write it, and the same in one file."""
    torch.manual_seed(0)
    model = MODELS.build(load_config("citygsx_toytown_cpu").model)
    points, colors = points_and_colors(400)
    model.initialize(ring_of_cameras(), 20 * points, colors)
    whole = save(model, tmp_path / "whole.pth")
    folder = tmp_path / "work_dir"
    folder.mkdir()
    tables = scene_tables(model, None)
    half = len(tables["anchors.positions"]) // 3
    parts = [
        {name: table[rows] for name, table in tables.items()}
        for rows in (slice(None, half), slice(half, None))
    ]
    path = folder / "iter_4.pth"
    shards = [write_shard(path, part, rank, 2) for rank, part in enumerate(parts)]
    checkpoint = {"state_dict": dict(model.state_dict()), "meta": {}}
    replace_rows(checkpoint, dict(index=dict(shards=shards), names=list(tables)))
    assert "anchors.positions" not in checkpoint["state_dict"]
    torch.save(checkpoint, path)
    return folder, whole


def test_scenes_in_shards_are_given_by_their_folder(shard_folder):
    folder, whole = shard_folder
    cameras = ring_of_cameras(1)
    expected = SceneRenderer("citygsx_toytown_cpu", whole, "cpu")(cameras).rgb[0]
    assert torch.equal(
        SceneRenderer("citygsx_toytown_cpu", folder, "cpu")(cameras).rgb[0], expected
    )
    (folder / "iter_8.pth").write_bytes((folder / "iter_4.pth").read_bytes())
    with pytest.raises(CheckpointError, match=r"iter_4.pth.*iter_8.pth.*name the file"):
        SceneRenderer("citygsx_toytown_cpu", folder, "cpu")
    # A folder that was moved as a whole names a file that is not there any more.
    (folder / "last_checkpoint").write_text("/elsewhere/iter_4.pth")
    assert torch.equal(
        SceneRenderer("citygsx_toytown_cpu", folder, "cpu")(cameras).rgb[0], expected
    )


class Watched:
    """A console that says whether somebody looks at it."""

    def __init__(self, is_terminal):
        self.is_terminal = is_terminal


@pytest.mark.parametrize(
    "is_terminal, show, count, bars",
    [(True, True, 3, 1), (False, True, 3, 0), (True, False, 3, 0), (True, True, 1, 0)],
)
def test_a_bar_is_shown_to_people_only(folder, monkeypatch, is_terminal, show, count, bars):
    seen = []
    monkeypatch.setattr("mmcity.apis.inferencer.get_console", lambda: Watched(is_terminal))
    monkeypatch.setattr(
        "mmcity.apis.inferencer.track",
        lambda items, description, total: seen.append((description, total)) or items,
    )
    renderer = SceneRenderer(
        "3dgs_toytown_cpu", SceneCase().checkpoint(folder), "cpu", show_progress=show
    )
    assert len(renderer(ring_of_cameras(count)).rgb) == count
    assert seen == [("rendering", count)] * bars


def test_cameras_come_from_files_and_arrays_too(folder, toytown_citygsx):
    renderer = SceneRenderer("3dgs_toytown_cpu", SceneCase().checkpoint(folder), "cpu")
    cameras = renderer.preprocess(toytown_citygsx)
    assert len(cameras) == 8 and cameras.one_size() == (96, 72)
    arrays = {name: getattr(cameras, name)[:1].numpy() for name in ("Ks", "viewmats", "widths")}
    arrays["heights"] = 72
    by_array, by_file = renderer(arrays).rgb[0], renderer(cameras[:1])["rgb"][0]
    assert torch.equal(by_array, by_file)


def test_occupancy_of_info_files_and_of_arrays(folder, drives):
    """Key frames of a user have no ground truth, and may lie in memory."""
    case = OccupancyCase()
    predictor = OccupancyPredictor(case.name, case.checkpoint(folder), "cpu")
    shutil.move(drives / "gts", folder / "gts")
    try:
        (expected,) = predictor(drives / "nuscenes_infos_val.pkl")
        batch = predictor.load(0, drives / "nuscenes_infos_val.pkl")
        with pytest.raises(FileNotFoundError, match=r"labels.npz"):
            predictor(0)
    finally:
        shutil.move(folder / "gts", drives / "gts")
    assert "gt_occupancy" not in expected.sample
    (again,) = predictor([0])
    assert torch.equal(again.labels, expected.labels)
    arrays = {name: values[0].numpy() for name, values in batch["inputs"].items()}
    small = dict(vol_range=[-8, -8, -1, 8, 8, 3], voxel_size=0.8)
    result = predictor(arrays, **small)
    assert result.labels.shape == (20, 20, 5)
    assert torch.equal(result.labels, predictor.label(expected.gaussians, **small)[0])
    with pytest.raises(ValueError, match=r"expected arrays \['depth'\] too"):
        predictor({name: value for name, value in arrays.items() if name != "depth"})
    with pytest.raises(FileNotFoundError, match=r"expected train, val, test or an info file"):
        predictor(0, "tset")


def test_a_scene_is_no_occupancy_model(folder):
    with pytest.raises(ValueError, match="expected a model of GaussTR, got GaussianSplatting"):
        OccupancyPredictor("3dgs_toytown_cpu")
