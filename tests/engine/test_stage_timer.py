"""Timing of named stages."""

import json
import time
from types import SimpleNamespace

import torch

from mmcity.engine.hooks import PerStageTimerHook
from mmcity.utils.timing import StageTimer, stage


def test_stages_are_summed_where_a_timer_listens():
    with stage("ignored"):
        pass
    timer = StageTimer()
    with timer.activate():
        for _ in range(3):
            with stage("sleep"):
                time.sleep(0.01)
    with stage("ignored"):
        pass
    summary = timer.summary()
    assert set(summary) == {"sleep"} and summary["sleep"]["calls"] == 3
    assert summary["sleep"]["seconds"] >= 0.03


def test_on_cuda_few_training_iterations_are_timed(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(StageTimer, "now", lambda self: float(next(clock)))
    hook = PerStageTimerHook(warmup=2, every=5)
    runner = SimpleNamespace(logger=SimpleNamespace(info=str), work_dir=str(tmp_path))
    hook.before_train(runner)
    reads = []
    for number in range(12):
        before = next(clock)
        hook.before_train_iter(runner, number)
        with stage("render"):
            pass
        hook.after_train_iter(runner, number)
        reads.append(next(clock) - before - 1)
    # Iterations 0, 1 (warm-up), 5 and 10; each reads the clock at 4 places, the next one's begin
    # is read at the end of the one before.
    assert [n for n, count in enumerate(reads) if count >= 4] == [0, 1, 5, 10]
    assert [n for n, count in enumerate(reads) if count == 0] == [2, 3, 6, 7, 8, 11]
    hook.after_train(runner)
    written = json.loads((tmp_path / "stage_times.json").read_text())
    assert {name: row["calls"] for name, row in written.items()} == dict(data=2, render=2, step=2)
