"""Dumps of occupancy in the published layout, and the table of a test's stages."""

import io
import json
import logging
import time
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.logging import MMLogger

from mmcity.datasets.io.info_pickle import load_plain_pickle
from mmcity.engine.hooks import DumpResultHook, PerStageTimerHook
from mmcity.structures import OccupancyDataSample
from mmcity.utils.timing import stage


def fake_runner(folder, batches=5):
    return SimpleNamespace(
        work_dir=str(folder),
        logger=logging.getLogger("occupancy_dumps"),
        test_evaluator=SimpleNamespace(metrics=[]),
        test_dataloader=range(batches),
    )


def test_published_layout(tmp_path):
    hook = DumpResultHook(
        out_dir=str(tmp_path / "outputs"), interval=2, format="pkl", pictures=False,
        name_keys=("sample_idx",),
        keys={"occ_pred": "pred_occupancy", "occ_gt": "gt_occupancy",
              "mask_camera": "mask_camera", "img_path": "meta.img_path"},
    )  # fmt: skip
    runner = fake_runner(tmp_path)
    hook.before_test(runner)
    for number in range(3):
        paths = [f"CAM_{k}/{number}.jpg" for k in range(6)]
        sample = OccupancyDataSample(metainfo={"sample_idx": number + 7, "img_path": paths})
        sample.pred_occupancy = torch.full((4, 4, 2), number)
        sample.gt_occupancy = torch.zeros(4, 4, 2, dtype=torch.uint8)
        sample.set_data({"mask_camera": torch.ones(4, 4, 2, dtype=torch.bool)})
        hook.after_test_iter(runner, number, outputs=[sample])
    hook.after_test(runner)
    # Every second sample, named after its index.
    assert sorted(p.name for p in (tmp_path / "outputs").iterdir()) == ["7.pkl", "9.pkl"]
    content = load_plain_pickle(tmp_path / "outputs" / "9.pkl")
    assert set(content) == {"occ_pred", "occ_gt", "mask_camera", "img_path"}
    assert content["occ_pred"].dtype == np.int64 and (content["occ_pred"] == 2).all()
    assert content["occ_gt"].dtype == np.uint8
    assert content["img_path"] == [f"CAM_{k}/2.jpg" for k in range(6)]


def test_stages_of_a_test_are_tabled_with_the_memory(tmp_path):
    said = io.StringIO()
    current = MMLogger.get_instance(f"stages of {tmp_path}", log_level="INFO")
    current.addHandler(logging.StreamHandler(said))
    hook, runner = PerStageTimerHook(warmup=1), fake_runner(tmp_path)
    hook.before_test(runner)
    for number in range(5):
        hook.before_test_iter(runner, number)
        with stage("voxelizer"):
            time.sleep(0.004)
        time.sleep(0.012)
        hook.after_test_iter(runner, number)
    hook.after_test(runner)
    written = json.loads((tmp_path / "test_stage_times.json").read_text())
    stages = written["stages"]
    assert stages["frame"]["calls"] == stages["voxelizer"]["calls"] == 4  # without the warm-up
    assert stages["frame"]["seconds"] >= 4 * 0.016
    assert 4 * 0.004 <= stages["voxelizer"]["seconds"] < stages["frame"]["seconds"]
    assert written["memory_bytes"]["peak memory"] > 50 * 2**20
    assert "voxelizer" in said.getvalue() and "MiB" in said.getvalue()
    with stage("voxelizer"):
        pass  # nobody listens any more
    assert hook.timer.calls["voxelizer"] == 4
