"""DynamicCity on the device: VAE, feature network and diffusion, resuming, sampling, scores."""

import numpy as np
import pytest
import torch
from virtual_cuda import Record

from mmcity.apis import OccupancyGenerator
from mmcity.apis.occupancy.clip_consistency import measure_clip_consistency
from mmcity.apis.occupancy.generate_clips import generate_clips
from mmcity.engine.checkpointing import load_from_local
from mmcity.engine.dynamiccity import export_checkpoint_rollouts
from mmcity.engine.launch import test as run_test
from mmcity.engine.launch import train
from mmcity.engine.loops import ResumableIterBasedTrainLoop
from mmcity.evaluation.feature_extractors import RandomVoxelFeatures
from mmcity.evaluation.metrics import OccGenMetric3D
from mmcity.models.losses.occupancy import lovasz_softmax
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_carlasc
from tests.rig import harness

VAE, DIT, FEATURES = (
    f"configs/dynamiccity/{name}_toytown_cpu.py"
    for name in ("dynamiccity_vae", "dynamiccity_dit", "occ_feature_net")
)
STEPS = 4
#: Most waits of the host in a training iteration.
WAITS = {"vae": 4, "features": 4, "dit": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Work folder with clips where the configs look for them."""
    folder = tmp_path_factory.mktemp("dynamiccity")
    town = ToytownConfig(seed=1, blocks=(1, 1), clutter=0.3, traffic=1.5)
    write_carlasc(folder / "data" / "toytown" / "carlasc", town, num_scenes=3, num_frames=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def options_of(folder, config, steps=STEPS) -> dict:
    """Few small batches; a diffusion finds its VAE and feature network in ``folder``."""
    options = {
        "train_cfg.max_iters": steps,
        "default_hooks.checkpoint.interval": STEPS // 2,
        "train_dataloader.batch_size": 2,
    }
    if config != DIT:
        return {**options, "train_cfg.val_interval": STEPS}
    return {
        **options,
        **{f"test_evaluator.{i}.reference.data_length": 4 for i in range(2)},
        "model.vae.init_cfg.checkpoint": str(folder / "vae" / f"iter_{STEPS}.pth"),
        "model.sampler.spacing": 4,
        "test_dataloader.batch_size": 2,
        "test_dataloader.dataset.data_length": 4,
        "test_evaluator.0.extractor.checkpoint": str(folder / "features" / f"iter_{STEPS}.pth"),
    }


def fit(config, work_dir, options, **kwargs):
    """State after a training in this process."""
    options = {**options, "experiment_name": f"{work_dir.parent.name}_{work_dir.name}"}
    last = train(harness.REPO / config, work_dir=work_dir, cfg_options=options, **kwargs)
    return load_from_local(last, map_location="cpu")["state_dict"]


@pytest.fixture(scope="module")
def trained(folder):
    """States of a training of each network; the diffusion stands on rollouts of the VAE."""
    states = {}
    for name, config in (("vae", VAE), ("features", FEATURES), ("dit", DIT)):
        if config == DIT:
            vae = folder / "vae" / f"iter_{STEPS}.pth"
            written = export_checkpoint_rollouts(
                harness.REPO / VAE, vae, folder / "data" / "rollout" / "toytown", splits=["train"]
            )
            assert len(written) == 1
        states[config] = fit(config, folder / name, options_of(folder, config))
    return states


@pytest.mark.parametrize(("name", "config"), [("vae", VAE), ("features", FEATURES), ("dit", DIT)])
class TestTraining:
    def test_resumed_run_equals_the_uninterrupted_one(
        self, folder, trained, tmp_path, name, config
    ):
        middle = str(folder / name / f"iter_{STEPS // 2}.pth")
        resumed = fit(config, tmp_path / name, options_of(folder, config), resume=middle)
        torch.testing.assert_close(resumed, trained[config])

    def test_mixed_precision(self, folder, trained, tmp_path, name, config):
        state = fit(config, tmp_path / name, options_of(folder, config, 2), amp=True)
        assert all(v.isfinite().all() for v in state.values() if v.is_floating_point())

    def test_predictions_are_scored(self, folder, trained, tmp_path, name, config):
        options = options_of(folder, config)
        if config != DIT:
            options = {}
        metrics = run_test(
            harness.REPO / config, folder / name / f"iter_{STEPS}.pth", work_dir=tmp_path,
            cfg_options=options,
        )  # fmt: skip
        assert metrics
        if config == DIT:
            assert any("FID" in key.upper() for key in metrics), metrics

    def test_two_devices_train_and_resume(self, folder, trained, tmp_path, name, config):
        if config == FEATURES:
            pytest.skip("the loop, wrapper and loader are those of the VAE")
        for steps in (STEPS // 2, STEPS):
            options = {**options_of(folder, config, steps), "train_dataloader.batch_size": 1}
            harness.run(
                harness.REPO / "tools" / "train.py", harness.REPO / config,
                "--launcher", "pytorch", "--work-dir", tmp_path,
                *(("--resume", "auto") if steps == STEPS else ()), "--cfg-options",
                *(f"{key}={value}" for key, value in options.items()), devices=2, cwd=folder,
                operators="cpu",
            )  # fmt: skip
        checkpoint = load_from_local(tmp_path / f"iter_{STEPS}.pth", map_location="cpu")
        assert len(checkpoint["random_states"]) == 2

    def test_host_waits(self, folder, trained, tmp_path, monkeypatch, name, config):
        plain, records = ResumableIterBasedTrainLoop.run_iter, []

        def run_iter(self, batch):
            with Record(("mmcity", "/ops/")) as record:
                plain(self, batch)
            records.append(record)

        monkeypatch.setattr(ResumableIterBasedTrainLoop, "run_iter", run_iter)
        fit(config, tmp_path / name, options_of(folder, config))
        third = records[2]  # between two that save a checkpoint
        assert sum(third.waits.values()) <= WAITS[name], third.table()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_clips_are_generated(folder, trained, tmp_path, sampler):
    model = (harness.REPO / DIT, folder / "dit" / f"iter_{STEPS}.pth", tmp_path / sampler)
    options = options_of(folder, DIT)
    (path,) = generate_clips(
        *model, num_samples=1, num_windows=2, command=1, sampler=sampler, steps=4,
        cfg_options=options,
    )  # fmt: skip
    with np.load(path) as data:
        assert data["voxels"].shape == (6, 32, 32, 8)
    assert measure_clip_consistency(tmp_path / sampler)


def test_a_region_is_painted_again(folder, trained):
    generator = OccupancyGenerator(
        harness.REPO / DIT, folder / "dit" / f"iter_{STEPS}.pth",
        folder / "vae" / f"iter_{STEPS}.pth",
    )  # fmt: skip
    assert generator.device.type == "cuda"
    clip = torch.zeros(1, 4, 32, 32, 8, dtype=torch.uint8)
    region = torch.zeros(1, 4, 32, 32, 8, dtype=torch.bool)
    region[:, :, 8:16, 8:16] = True
    painted = generator.inpaint(clip, region, seed=0)
    assert (painted.cpu()[~region] == 0).all()


def test_features_of_generated_clips_come_from_their_device():
    extractor = RandomVoxelFeatures()
    metric = OccGenMetric3D(dict(type="RandomVoxelFeatures"), baselines=())
    clips = torch.randint(12, (2, 4, 16, 16, 8), generator=torch.Generator().manual_seed(0))
    real, fake = clips.to(torch.uint8).cuda()
    metric.process({}, [{"gt_occupancy": real, "pred_occupancy": fake}])
    assert next(metric.extractor.network.parameters()).is_cuda
    found = metric.results[0]["generated"]["features"]
    torch.testing.assert_close(found, extractor(fake.cpu())[0])


def test_absent_classes_do_not_count_in_the_lovasz_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 6, generator=generator)
    target = torch.tensor([0, 2, 5])[torch.randint(3, (200,), generator=generator)]
    found = []
    for device in ("cpu", "cuda"):
        values = logits.to(device).requires_grad_()
        loss = lovasz_softmax(values.softmax(-1), target.to(device))
        found.append((loss.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(loss, values))))
    torch.testing.assert_close(found[1], found[0])
