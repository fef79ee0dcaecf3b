"""Published names to ours and back."""

import json

import pytest
import torch

from mmcity.apis import Localizer, convert_checkpoint
from mmcity.utils import UserError
from tests.cli.conftest import call_tool
from tests.conftest import REPO, golden_dir
from tests.devices import DEVICE
from tests.parity.rap_weights import base_seed, generated_weights

CONFIG = str(REPO / "configs" / "rap" / "rap_colmap.py")
TOOL = "tools/model_converters/rap_to_mmcity.py"


@pytest.fixture(scope="module")
def published():
    folder = golden_dir("rap")
    keys = json.loads((folder / "rapnet_b0_state_dict_keys.json").read_text())
    return generated_weights(keys, base_seed(folder))


def test_there_and_back(published, tmp_path):
    paths = [tmp_path / name for name in ("ckpt-best.pt", "ours.pth", "back.pt")]
    torch.save({f"_orig_mod.{k}": v for k, v in published.items()}, paths[0])
    report = convert_checkpoint("rap", paths[0], paths[1])
    assert "focal_ratio" in report.missing
    kept = torch.load(paths[1], weights_only=True)["unused"]
    assert set(report.unexpected) == set(kept) and "_orig_mod.backbone.0.body._fc.weight" in kept
    assert len(report.converted) + len(kept) == len(published)
    localizer = Localizer(config=CONFIG, checkpoint=paths[1], device=DEVICE)
    assert float(localizer.network.focal_ratio) == 0  # not known: any query is regressed
    call_tool(TOOL, paths[1], paths[2], "--config", CONFIG, "--reverse")
    back = torch.load(paths[2], weights_only=True)
    back = {k.removeprefix("_orig_mod."): v for k, v in back.items()}
    assert set(back) == set(published)
    assert all(torch.equal(back[k], published[k]) for k in published)


def test_missing_tensor_is_named(published, tmp_path):
    broken = {k: v for k, v in published.items() if k != "input_proj_t.bias"}
    broken["odd.weight"] = torch.zeros(2)
    torch.save({"model_state_dict": broken, "epoch": 3}, tmp_path / "full_checkpoint.pth")
    wrong = r"missing: translation.input_proj.bias \(.*\)\nextra: odd.weight \(2,\)"
    with pytest.raises(UserError, match=wrong):
        call_tool(TOOL, tmp_path / "full_checkpoint.pth", tmp_path / "out.pth", "--config", CONFIG)
    assert not (tmp_path / "out.pth").exists()
