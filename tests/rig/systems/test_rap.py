"""RAP on the device: maps and networks, resuming, predicting, two processes, localisation."""

import numpy as np
import pytest
import torch
from mmengine.runner.loops import EpochBasedTrainLoop
from virtual_cuda import Record

from mmcity.apis import Localizer, SceneRenderer, TiledLocalizer, load_localizer, localize_queries
from mmcity.apis.scenes import export_scene
from mmcity.datasets import ColmapDataset
from mmcity.engine.checkpointing import load_from_local
from mmcity.engine.launch import test as run_test
from mmcity.engine.launch import train
from mmcity.engine.loops import ResumableIterBasedTrainLoop
from mmcity.workflow import make_localizer
from tests.apis.localization.test_localizer import MappedRoom, picture
from tests.models.rap.textured_room import render_room, room_camera
from tests.rig import harness

MAPS = ("rap_map_toytown_cpu", "rap_map_appearance_cpu")
NETWORKS = ("rap_toytown_cpu", "rap_toytown_value_cpu")
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
STEPS = 4
SYNTHESIS = "default_hooks.view_synthesis"


def data(scene) -> dict:
    """Options that read the tiny town."""
    return {f"{loader}.dataset.data_root": str(scene) for loader in LOADERS}


def map_options(scene, steps=STEPS) -> dict:
    return {
        **data(scene),
        "train_cfg.max_iters": steps,
        "train_cfg.val_interval": STEPS,
        "default_hooks.checkpoint.interval": STEPS // 2,
        "default_hooks.growth.strategy.refine_start": 1,
        "default_hooks.growth.strategy.refine_every": 3,
    }


def network_options(scene, maps, steps=STEPS) -> dict:
    work_dir = maps / MAPS[1]
    return {
        **data(scene),
        "train_dataloader.batch_size": 2,
        "train_cfg.max_epochs": steps,
        "train_cfg.val_interval": STEPS,
        "default_hooks.checkpoint.interval": STEPS // 2,
        f"{SYNTHESIS}.map": str(work_dir / f"iter_{STEPS}.pth"),
        f"{SYNTHESIS}.map_config": str(work_dir / f"{MAPS[1]}.py"),
        f"{SYNTHESIS}.refresh_every": 1,
        f"{SYNTHESIS}.views_per_image": 1,
        f"{SYNTHESIS}.max_attempts": 1,
        f"{SYNTHESIS}.min_coverage": 0.01,
    }


def fit(name, work_dir, options, **kwargs):
    """Last checkpoint of a training in this process."""
    options = {**options, "experiment_name": f"{work_dir.parent.name}_{work_dir.name}"}
    config = harness.REPO / "configs" / "rap" / f"{name}.py"
    return train(config, work_dir=work_dir, cfg_options=options, **kwargs)


@pytest.fixture(scope="module")
def maps(toytown_citygsx, tmp_path_factory):
    """Folder with a training of each map, whose last checkpoint is of four steps."""
    folder = tmp_path_factory.mktemp("maps")
    for name in MAPS:
        fit(name, folder / name, map_options(toytown_citygsx))
    return folder


@pytest.fixture(scope="module")
def networks(toytown_citygsx, maps, tmp_path_factory):
    """Folder with a training of each network."""
    folder = tmp_path_factory.mktemp("networks")
    for name in NETWORKS:
        fit(name, folder / name, network_options(toytown_citygsx, maps))
    return folder


@pytest.mark.parametrize("name", [*MAPS, *NETWORKS])
def test_training_resumes_and_predicts(toytown_citygsx, maps, networks, tmp_path, name):
    is_map = name in MAPS
    whole = (maps if is_map else networks) / name
    step = "iter" if is_map else "epoch"
    options = map_options(toytown_citygsx) if is_map else network_options(toytown_citygsx, maps)
    resume = str(whole / f"{step}_{STEPS // 2}.pth")
    last = fit(name, tmp_path / name, options, resume=resume)
    states = [
        load_from_local(path, map_location="cpu")["state_dict"]
        for path in (whole / f"{step}_{STEPS}.pth", last)
    ]
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-5)
    metrics = run_test(
        harness.REPO / "configs" / "rap" / f"{name}.py", last, work_dir=tmp_path / "test",
        cfg_options=data(toytown_citygsx),
    )  # fmt: skip
    key = "psnr" if is_map else "median_trans"
    assert all(np.isfinite(value) for found, value in metrics.items() if found.endswith(key))


@pytest.mark.parametrize("name", [*MAPS, *NETWORKS])
def test_mixed_precision(toytown_citygsx, maps, tmp_path, name):
    is_map = name in MAPS
    options = (
        map_options(toytown_citygsx, 2) if is_map else network_options(toytown_citygsx, maps, 2)
    )
    state = load_from_local(fit(name, tmp_path / name, options, amp=True), map_location="cpu")
    assert all(v.isfinite().all() for v in state["state_dict"].values() if v.is_floating_point())


@pytest.mark.parametrize("name", [MAPS[1], NETWORKS[1]])
def test_two_devices_train_and_resume(toytown_citygsx, maps, tmp_path, name):
    step, options = "iter", map_options(toytown_citygsx)
    if name in NETWORKS:
        step, options = "epoch", network_options(toytown_citygsx, maps)
        options["train_dataloader.batch_size"] = 1  # no photograph is left over
    for steps in (STEPS // 2, STEPS):
        options[f"train_cfg.max_{step}s"] = steps
        harness.run(
            harness.REPO / "tools" / "train.py", harness.REPO / "configs" / "rap" / f"{name}.py",
            "--launcher", "pytorch", "--work-dir", tmp_path,
            *(("--resume", "auto") if steps == STEPS else ()),
            "--cfg-options", *(f"{key}={value}" for key, value in options.items()), devices=2,
        )  # fmt: skip
    checkpoint = load_from_local(tmp_path / f"{step}_{STEPS}.pth", map_location="cpu")
    assert len(checkpoint["random_states"]) == 2
    if name in NETWORKS:  # also those that the other process saw
        assert checkpoint["view_synthesis"]["views"]["errors"].isfinite().all()


#: Most waits of the host in a training step.
WAITS = {"rap_map_appearance": 6, MAPS[0]: 6, MAPS[1]: 6, **dict.fromkeys(NETWORKS, 8)}


@pytest.mark.parametrize("name", WAITS)
def test_host_waits(toytown_citygsx, maps, tmp_path, name, monkeypatch):
    is_map = name not in NETWORKS
    options = map_options(toytown_citygsx) if is_map else network_options(toytown_citygsx, maps, 2)
    loop = ResumableIterBasedTrainLoop if is_map else EpochBasedTrainLoop
    plain, found = loop.run_iter, []

    def run_iter(self, *args):
        with Record(within=("mmcity", "/ops/")) as record:
            plain(self, *args)
        found.append(record)

    monkeypatch.setattr(loop, "run_iter", run_iter)
    options["default_hooks.checkpoint.interval"] = 1000
    options["train_cfg.val_interval"] = 1000
    if not is_map:
        options["train_dataloader.batch_size"] = 6  # waits must not grow with it
    fit(name, tmp_path / name, options)
    step = found[1]
    assert sum(step.waits.values()) <= WAITS[name], step.table()


def test_queries_of_a_scene(toytown_citygsx, maps, networks, tmp_path):
    name = NETWORKS[0]
    for kind in MAPS:
        report = localize_queries(
            toytown_citygsx, tmp_path / kind, map=maps / kind / f"iter_{STEPS}.pth",
            map_config=maps / kind / f"{kind}.py", config=networks / name / f"{name}.py",
            checkpoint=networks / name / f"epoch_{STEPS}.pth", limit=1,
        )  # fmt: skip
        assert len(report.rows) == 1 and (tmp_path / kind / "poses.txt").is_file()


def test_refinement_in_renders_of_the_device():
    def render(camera):
        return {key: value.cuda() for key, value in render_room(camera).items()}

    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    localizer = Localizer(render, MappedRoom())
    tiled = TiledLocalizer({"room": localizer})
    for result in (next(iter(localizer(picture(truth)))), tiled.localize(picture(truth))):
        assert result.status == "ok"
        torch.testing.assert_close(
            result.camera.centers.float(), truth.centers.float(), atol=0.01, rtol=0
        )


def test_a_localizer_is_made_and_loaded(toytown_citygsx, tmp_path):
    path = make_localizer(
        toytown_citygsx, tmp_path, metric=True, long_side=96,
        map_options={"train_cfg.max_iters": 2, "default_hooks.checkpoint.interval": 2},
        network_options={"train_cfg.max_epochs": 1, f"{SYNTHESIS}.views_per_image": 1,
                         f"{SYNTHESIS}.max_attempts": 1, "default_hooks.checkpoint.interval": 1},
    )  # fmt: skip
    localizer = load_localizer(path)
    assert localizer.device.type == "cuda"
    assert localizer.localize(np.zeros((72, 96, 3), np.uint8)).regressed is not None


def test_an_appearance_map_is_rendered_and_baked(toytown_citygsx, maps, tmp_path):
    work_dir = maps / MAPS[1]
    checkpoint, config = work_dir / f"iter_{STEPS}.pth", work_dir / f"{MAPS[1]}.py"
    camera = ColmapDataset(toytown_citygsx, split="train").cameras[0]
    assert next(SceneRenderer(config, checkpoint).iterate(camera))["rgb"].isfinite().all()
    export_scene(checkpoint, tmp_path / "scene.ply", config=config)
    assert next(SceneRenderer(checkpoint=tmp_path / "scene.ply").iterate(camera))["rgb"].any()
