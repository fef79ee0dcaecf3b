"""Scene names in info files that were made elsewhere."""

import json

import pytest

from mmcity.cli.main import dispatch
from mmcity.datasets.io.info_pickle import load_info_pickle, save_info_pickle
from tests.cli.conftest import call_tool


def test_update_data_adds_scene_names(tmp_path, capsys):
    tables = tmp_path / "v1.0-mini"
    tables.mkdir()
    (tables / "scene.json").write_text(json.dumps([{"token": "s", "name": "scene-0001"}]))
    (tables / "sample.json").write_text(json.dumps([{"token": "t", "scene_token": "s"}]))
    path = tmp_path / "nuscenes_infos_val.pkl"
    save_info_pickle({"metainfo": {}, "data_list": [{"token": "t"}]}, path)
    words = ["nuscenes", "--root-path", str(tmp_path), "--version", "v1.0-mini"]
    call_tool("tools/update_data.py", *words)
    first = path.read_bytes()
    assert load_info_pickle(path)["data_list"][0]["scene_idx"] == "scene-0001"
    dispatch(["data", "update", *words])
    assert path.read_bytes() == first
    assert "1 key frames, 1 updated" in capsys.readouterr().out
    save_info_pickle({"metainfo": {}, "data_list": [{"token": "odd"}]}, path)
    with pytest.raises(ValueError, match="expected samples of .*, got odd"):
        dispatch(["data", "update", *words])
