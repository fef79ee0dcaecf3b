"""Timing of named stages."""

import time

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
