"""Published checkpoints of DynamicCity to this toolbox and back."""

import pytest
import torch

from mmcity.apis import convert_checkpoint
from mmcity.registry import MODELS
from mmcity.utils import UserError
from tests.cli.conftest import call_tool
from tests.models.dynamiccity.test_sampling import build_model

TOOL = "tools/model_converters/dynamiccity_to_mmcity.py"


@pytest.fixture
def files(tmp_path):
    """Config, and weights of the diffusion model as the original saves them."""
    model = build_model(conditions=("command",))
    model.pop("vae")
    config = tmp_path / "dit.py"
    config.write_text(f"default_scope = 'mmcity'\nmodel = {model!r}\n")
    network = MODELS.build(model).denoiser.state_dict()
    online = {f"module.{name}": value for name, value in network.items()}
    averaged = {name: value + 1 for name, value in network.items()}
    torch.save({"model_state_dict": online, "ema": averaged}, tmp_path / "published.pth")
    return config, network


@pytest.mark.parametrize(("weights", "offset"), [("ema", 1), ("model", 0)])
def test_there_and_back(files, tmp_path, weights, offset):
    config, network = files
    source, ours, back = (str(tmp_path / f"{n}.pth") for n in ("published", "ours", "back"))
    call_tool(TOOL, source, ours, "--config", config, "--weights", weights)
    state = torch.load(ours, weights_only=True)["state_dict"]
    for name, value in network.items():
        assert torch.equal(state[f"denoiser.{name}"], value + offset)
    report = convert_checkpoint("dynamiccity", ours, back, config=config, reverse=True)
    assert report.converted == list(network) and not report.missing
    assert set(report.unexpected) == {"latent_mean", "latent_std"}
    published = torch.load(back, weights_only=True)["model_state_dict"]
    assert set(published) == set(network)
    assert all(torch.equal(published[name], network[name] + offset) for name in network)


def test_what_does_not_fit_is_listed(files, tmp_path):
    config, network = files
    first = next(name for name in network if network[name].ndim == 2)
    broken = {name: value for name, value in network.items() if name != first}
    torch.save({"model_state_dict": {**broken, "odd": torch.zeros(2)}}, tmp_path / "broken.pth")
    with pytest.raises(UserError) as caught:
        call_tool(TOOL, tmp_path / "broken.pth", tmp_path / "out.pth", "--config", config)
    assert f"missing: {first}" in str(caught.value) and "extra: odd (2,)" in str(caught.value)
    assert not (tmp_path / "out.pth").exists()
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match=r"broken\.pth: expected a DynamicCity checkpoint"):
        call_tool(TOOL, tmp_path / "broken.pth", tmp_path / "out.pth", "--config", config)
