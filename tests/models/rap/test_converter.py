"""Published names to ours and back."""

import json

import pytest
import torch

from mmcity.apis import Localizer
from tests.conftest import REPO, golden_dir
from tests.parity.rap_weights import base_seed, generated_weights
from tools.model_converters import rap_to_mmcity

CONFIG = str(REPO / "configs" / "rap" / "rap_colmap.py")


@pytest.fixture(scope="module")
def published():
    folder = golden_dir("rap")
    keys = json.loads((folder / "rapnet_b0_state_dict_keys.json").read_text())
    return generated_weights(keys, base_seed(folder))


def test_there_and_back(published, tmp_path):
    paths = [tmp_path / name for name in ("ckpt-best.pt", "ours.pth", "back.pt")]
    torch.save({f"_orig_mod.{k}": v for k, v in published.items()}, paths[0])
    rap_to_mmcity.main([str(paths[0]), str(paths[1]), "--config", CONFIG])
    localizer = Localizer(config=CONFIG, checkpoint=paths[1], device="cpu")
    assert float(localizer.network.focal_ratio) == 0  # not known: any query is regressed
    rap_to_mmcity.main([str(paths[1]), str(paths[2]), "--config", CONFIG, "--reverse"])
    back = torch.load(paths[2], weights_only=True)
    back = {k.removeprefix("_orig_mod."): v for k, v in back.items()}
    assert set(back) == set(published)
    assert all(torch.equal(back[k], published[k]) for k in published)


def test_missing_tensor_is_named(published, tmp_path):
    broken = {k: v for k, v in published.items() if k != "input_proj_t.bias"}
    torch.save({"model_state_dict": broken, "epoch": 3}, tmp_path / "full_checkpoint.pth")
    with pytest.raises(SystemExit, match=r"missing: translation.input_proj.bias"):
        rap_to_mmcity.main(
            [str(tmp_path / "full_checkpoint.pth"), str(tmp_path / "out.pth"), "--config", CONFIG]
        )
    assert not (tmp_path / "out.pth").exists()
