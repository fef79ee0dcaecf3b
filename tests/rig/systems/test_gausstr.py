"""GaussTR on the device: training, resuming, testing, predictor, vocabularies, two processes."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from virtual_cuda import Record

from mmcity.apis import OccupancyPredictor
from mmcity.apis.occupancy.foundation_maps import generate_maps
from mmcity.apis.occupancy.text_prototypes import build_text_prototypes
from mmcity.apis.occupancy.threshold_calibration import calibrate_thresholds
from mmcity.datasets.converters.nuscenes import convert_nuscenes
from mmcity.engine.checkpointing import load_from_local
from mmcity.engine.launch import test as run_test
from mmcity.engine.launch import train
from mmcity.engine.loops import ResumableIterBasedTrainLoop
from mmcity.models.foundation import FeatUpMaskCLIP
from mmcity.models.gausstr import load_prototypes
from mmcity.models.gausstr.depth_occupancy import occupancy_from_depth
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_nuscenes
from tests.models.gausstr.test_depth_occupancy import RANGE, VOXEL, forward_camera
from tests.rig import harness

CONFIG = harness.REPO / "configs" / "gausstr" / "gausstr_toytown_cpu.py"
STEPS = 4
#: Most waits of the host in a training iteration, whatever the batch.
WAITS = 10
#: What the published form has: three layers, a running basis, no targets of the volume.
PUBLISHED = {
    "model.decoder.num_layers": 3,
    "model.pca": "ema",
    "model.reference_init": "random",
    "model.gauss_head.volume_loss": None,
    "model.gauss_head.sky": "depth",
    "model.gauss_head.sampled_features": False,
    "train_dataloader.batch_size": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Work folder with two key frames where the config looks for them."""
    folder = tmp_path_factory.mktemp("gausstr")
    root = folder / "data" / "toytown" / "nuscenes"
    town = ToytownConfig(seed=3, blocks=(1, 1), supersampling=1, clutter=0.3, traffic=0.3)
    sizes = dict(num_scenes=2, num_frames=1, sweeps=False, feature_patch=4)
    write_nuscenes(root, town, (200, 112), **sizes)
    convert_nuscenes(root, version="v1.0-mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def options_of(steps=STEPS) -> dict:
    return {
        "train_cfg.max_iters": steps,
        "train_cfg.val_interval": STEPS,
        "default_hooks.checkpoint.interval": STEPS // 2,
        "model.num_queries": 64,
    }


def fit(work_dir, options, **kwargs):
    """State after a training in this process."""
    options = {**options, "experiment_name": f"{work_dir.parent.name}_{work_dir.name}"}
    last = train(CONFIG, work_dir=work_dir, cfg_options=options, **kwargs)
    return load_from_local(last, map_location="cpu")["state_dict"]


@pytest.fixture(scope="module")
def trained(folder):
    """State after a training, whose checkpoints lie in ``run``."""
    return fit(folder / "run", options_of())


@pytest.fixture
def predictor(folder, trained):
    return OccupancyPredictor(folder / "run" / CONFIG.name, folder / "run" / f"iter_{STEPS}.pth")


def test_resumed_run_equals_the_uninterrupted_one(folder, trained, tmp_path):
    middle = str(folder / "run" / f"iter_{STEPS // 2}.pth")
    resumed = fit(tmp_path / "resumed", options_of(), resume=middle)
    torch.testing.assert_close(resumed, trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, PUBLISHED], ids=["toy", "published"])
def test_mixed_precision(folder, tmp_path, options):
    state = fit(tmp_path / "amp", {**options_of(2), **options}, amp=True)
    assert all(v.isfinite().all() for v in state.values() if v.is_floating_point())


@pytest.mark.parametrize("options", [{}, PUBLISHED], ids=["toy", "published"])
def test_host_waits(folder, tmp_path, monkeypatch, options):
    plain, records = ResumableIterBasedTrainLoop.run_iter, []

    def run_iter(self, batch):
        with Record(("mmcity", "/ops/")) as record:
            plain(self, batch)
        records.append(record)

    monkeypatch.setattr(ResumableIterBasedTrainLoop, "run_iter", run_iter)
    options = {**options_of(), **options, "default_hooks.stage_timer.warmup": 1}
    fit(tmp_path / "waits", options)
    third = records[2]  # between two that save a checkpoint
    assert sum(third.waits.values()) <= WAITS, third.table()


def test_two_devices_train_and_resume(folder, tmp_path):
    for steps in (STEPS // 2, STEPS):
        harness.run(
            harness.REPO / "tools" / "train.py", CONFIG, "--launcher", "pytorch",
            "--work-dir", tmp_path, *(("--resume", "auto") if steps == STEPS else ()),
            "--cfg-options", *(f"{key}={value}" for key, value in options_of(steps).items()),
            devices=2, cwd=folder,
        )  # fmt: skip
    checkpoint = load_from_local(tmp_path / f"iter_{STEPS}.pth", map_location="cpu")
    assert len(checkpoint["random_states"]) == 2


def test_predictions_are_scored(folder, trained, tmp_path):
    metrics = run_test(
        folder / "run" / CONFIG.name, folder / "run" / f"iter_{STEPS}.pth", work_dir=tmp_path
    )
    assert any(key.endswith("mIoU") or key.endswith("miou") for key in metrics), metrics


def test_predictor_labels_any_volume_and_vocabulary(predictor):
    assert predictor.device.type == "cuda"
    result = predictor(0)
    assert tuple(result.labels.shape) == (200, 200, 16)
    finer = predictor(0, vol_range=(-10, -10, -1, 10, 10, 3), voxel_size=0.2)
    assert tuple(finer.labels.shape) == (100, 100, 20)
    head = predictor.model.gauss_heads[-1]
    predictor.set_vocabulary(head.text_proto_embeds.cpu(), head.vocabulary)
    assert np.array_equal(np.asarray(predictor(0).labels), np.asarray(result.labels))


def test_thresholds_are_calibrated(folder, trained, tmp_path):
    found = calibrate_thresholds(
        folder / "run" / CONFIG.name, folder / "run" / f"iter_{STEPS}.pth", split="val", frames=1,
        out=tmp_path / "vocabulary.yaml",
    )  # fmt: skip
    assert found.frames == 1


def test_targets_of_depth_maps_are_those_of_the_cpu():
    depth = torch.full((2, 1, 24, 24), 5.25)
    depth[1, :, 8:16] = 0
    cameras = {key: value.expand(2, 1, 4, 4) for key, value in forward_camera().items()}
    there = {key: value.cuda() for key, value in cameras.items()}
    expected = occupancy_from_depth(depth, cameras, RANGE, VOXEL)
    assert torch.equal(occupancy_from_depth(depth.cuda(), there, RANGE, VOXEL).cpu(), expected)


def test_prototypes_are_built(tmp_path, monkeypatch):
    class Text(nn.Embedding):
        def encode_text(self, tokens):
            return self(tokens).mean(1)

    clip = SimpleNamespace(
        load=lambda path, device: (Text(32, 8).to(device), None),
        tokenize=lambda texts: torch.tensor([[ord(c) % 32 for c in f"{t:9.9}"] for t in texts]),
    )
    monkeypatch.setitem(sys.modules, "clip", clip)
    (tmp_path / "weights.pt").touch()
    words = tmp_path / "words.yaml"
    words.write_text("classes: [{label: 4, prompts: [car, van]}, {label: 17, prompts: [sky]}]")
    out = tmp_path / "prototypes.pth"
    build_text_prototypes(words, "clip", tmp_path / "weights.pt", out)
    assert load_prototypes(out)[0].shape == (8, 3)


def test_depth_maps_are_generated(folder, tmp_path):
    (tmp_path / "hubconf.py").write_text(
        "import torch\n"
        "class Flat(torch.nn.Linear):\n"
        "    def inference(self, data):\n"
        "        return (self(data['input'][:, :1, :, :1]).expand(-1, -1, -1, 1064),)\n"
        "def metric3d_vit_large(pretrain):\n"
        "    return Flat(1, 1)\n"
    )
    state = {"weight": torch.zeros(1, 1), "bias": torch.full((1,), 10.0)}
    torch.save({"model_state_dict": state}, tmp_path / "weights.pth")
    root, out = folder / "data" / "toytown" / "nuscenes", tmp_path / "depth"
    options = {"repo": str(tmp_path), "weights": str(tmp_path / "weights.pth")}
    written = generate_maps(
        "depth", "metric3d", [root / "nuscenes_infos_val.pkl"], root, out, options=options
    )
    assert written == (6, 6)
    depth = np.load(next(out.glob("*.npy")))
    assert depth.shape == (112, 200) and (depth > 0).all()


def test_features_are_averaged_over_patches():
    model = FeatUpMaskCLIP(nn.Identity(), image_size=(32, 48), patch=16).cuda()
    assert model(torch.rand(1, 3, 64, 96, device="cuda")).shape == (1, 3, 2, 3)
