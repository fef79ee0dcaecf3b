"""The plain form that the pose network is measured against is the same network."""

from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_plain_form_gives_the_same_poses(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from analysis_tools.benchmark_localization import compare

    found = compare((48, 64), batch=2, repeats=1, width=0.25)
    assert found["difference"] < 1e-5
    assert 0 < found["ms_net"] and 0 < found["ms_plain"]
