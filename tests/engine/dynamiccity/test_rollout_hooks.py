"""Export at the end of training, and the statistics that the next stage starts from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmcity.datasets import HexPlaneRollout
from mmcity.datasets.io.rollout_files import read_rollout
from mmcity.engine.dynamiccity import LatentStatisticsHook, SaveRolloutHook
from mmcity.models.dynamiccity import HexPlaneDiffusion, HexPlaneVAE
from mmcity.models.dynamiccity.hexplane import to_rollout
from tests.cli.conftest import call_tool
from tests.devices import DEVICE


@pytest.fixture
def run(tmp_path):
    init_default_scope("mmcity")
    rng = np.random.default_rng(0)
    folder = tmp_path / "sequences" / "00"
    folder.mkdir(parents=True)
    clip = (rng.integers(0, 20, (6, 8, 8, 4)) * (rng.random((6, 8, 8, 4)) < 0.3)).astype(np.uint8)
    pose = np.tile(np.eye(4), (6, 1, 1))
    np.savez(folder / "occ4d.npz", occ_128x128x8=clip, lidar2world=pose, times=np.arange(6) / 10)
    torch.manual_seed(0)
    network = dict(
        spatial_size=(8, 8, 4),
        sequence_length=4,
        latent_channels=4,
        query_channels=8,
        hex_down=(0, 0, 0, 0),
        conv_hidden_low_res=8,
        conv_hidden_high_res=8,
    )
    model = HexPlaneVAE(**network)
    dataset = dict(
        type="SemanticKITTIOccSequence",
        data_root=str(tmp_path),
        sequence_length=4,
        pipeline=[dict(type="FlipXYT", prob=1.0), dict(type="PackOccInputs")],
    )
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    logger = MMLogger.get_instance("rollout-hooks")
    return SimpleNamespace(
        model=model, network=network, cfg=cfg, work_dir=str(tmp_path / "work"), logger=logger
    )


def test_planes_are_exported_without_augmentation(run, tmp_path):
    SaveRolloutHook(splits=("train",), flips=(0, 2)).after_train(run)
    folder = tmp_path / "work" / "rollout" / "train"
    data = HexPlaneRollout(str(folder), txyz=run.model.txyz)
    assert len(data) == 2 * 3
    from mmcity.registry import DATASETS

    plain = run.cfg.train_dataloader.dataset.copy()
    plain.pipeline = []
    voxels = torch.from_numpy(DATASETS.build(plain).get_data_info(0)["voxels"])
    expected = to_rollout(run.model.eval().encode(voxels[None])[0])
    found = read_rollout(folder / data.get_data_info(0)["path"])["rollout"]
    torch.testing.assert_close(
        torch.from_numpy(found).float(), expected.detach(), atol=2e-3, rtol=2e-3
    )
    # The config's own pipeline stays as it was.
    assert len(run.cfg.train_dataloader.dataset.pipeline) == 2


def test_export_of_a_checkpoint_is_that_of_the_hook(run, tmp_path, capsys):
    SaveRolloutHook(splits=("train",), flips=(0, 2)).after_train(run)
    network = dict(run.network, type="HexPlaneVAE")
    config, weights = tmp_path / "config.py", tmp_path / "weights.pth"
    config.write_text(Config(dict(run.cfg, default_scope="mmcity", model=network)).pretty_text)
    torch.save({"state_dict": run.model.state_dict(), "meta": {}}, weights)
    words = (config, weights, "--out", tmp_path / "out", "--splits", "train", "--device", DEVICE)
    call_tool("tools/export_rollouts.py", *words, "--flips", 0, 2)
    assert f"{tmp_path / 'out' / 'train'}: 6 rollouts" in capsys.readouterr().out
    files = sorted((tmp_path / "work" / "rollout").rglob("*.npz"))
    assert len(files) == 6
    for file in files:
        again = tmp_path / "out" / file.relative_to(tmp_path / "work" / "rollout")
        assert again.read_bytes() == file.read_bytes()
    for flips in ((8,), (2, 2)):
        with pytest.raises(ValueError, match="flips: expected different numbers from 0 to 7"):
            call_tool("tools/export_rollouts.py", *words, "--flips", *flips)


@pytest.mark.parametrize("overlap, known", [(2, 1), (3, 2)])
def test_the_clip_before_may_share_frames(run, tmp_path, overlap, known):
    SaveRolloutHook(splits=("train",)).after_train(run)
    options = dict(conditions=("hexplane",), predecessor_overlap=overlap)
    data = HexPlaneRollout(str(tmp_path / "work" / "rollout" / "train"), **options)
    assert len(data) == known  # of the windows that start with frames 0, 1, 2
    plain = HexPlaneRollout(data.data_root)
    before = plain[2 - (4 - overlap)]["inputs"]["rollout"]
    torch.testing.assert_close(data[known - 1]["inputs"]["hexplane"], before)
    with pytest.raises(ValueError, match="predecessor_overlap"):
        HexPlaneRollout(data.data_root, predecessor_overlap=4)


def test_statistics_standardise_the_training_set(run, tmp_path):
    SaveRolloutHook(splits=("train",), dtype="float32").after_train(run)
    data = HexPlaneRollout(str(tmp_path / "work" / "rollout" / "train"))
    model = HexPlaneDiffusion(
        denoiser=dict(
            type="HexPlaneDiT", in_channels=4, txyz=run.model.txyz, depth=1, hidden=16, heads=2
        ),
        normalize="plane_channel",
    )
    run.model, run.train_dataloader = model, SimpleNamespace(dataset=data)
    LatentStatisticsHook().before_train(run)
    joint = torch.stack([data[i]["inputs"]["rollout"] for i in range(len(data))])
    standard = model.standardize(joint.to(model.latent_mean))
    plane = standard[:, :, :4, :4]  # xy
    torch.testing.assert_close(plane.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    spread = plane.std((0, 2, 3), unbiased=False)
    torch.testing.assert_close(spread, torch.ones(4), atol=1e-3, rtol=0)


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="splits"):
        SaveRolloutHook(splits=("training",))
