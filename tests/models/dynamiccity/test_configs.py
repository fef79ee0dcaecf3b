"""Every DynamicCity config builds the model that its name says."""

import pytest
from mmengine.registry import init_default_scope

from mmcity.engine.launch import load_config
from mmcity.registry import MODELS
from tests.conftest import REPO

CONFIGS = sorted((REPO / "configs" / "dynamiccity").glob("*.py"))
PUBLISHED_SIZES = {
    "dynamiccity_vae_carlasc": 1_699_288,
    "dynamiccity_dit_carlasc": 43_730_432,
    "dynamiccity_dit1_carlasc": 194_536_832,
    "dynamiccity_dit_carlasc_all": 53_533_249,
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_builds(path):
    init_default_scope("mmcity")
    cfg = load_config(path)
    # Tables are computed, so the device stays the CPU; the largest model takes 0.8 GB.
    model = MODELS.build(cfg.model)
    network = model.denoiser if hasattr(model, "denoiser") else model
    count = sum(p.numel() for p in network.parameters())
    assert count == PUBLISHED_SIZES.get(path.stem, count)
    if hasattr(model, "denoiser"):
        dataset = cfg.train_dataloader.dataset
        dataset = dataset.get("dataset", dataset)  # what a wrapper draws from
        assert tuple(dataset.txyz) == model.txyz
        assert tuple(dataset.conditions) == network.conditions
        stem = path.stem.replace("dit1", "dit").replace("dit_", "vae_").replace("_all", "")
        vae = load_config(path.with_name(f"{stem}.py"))
        sizes = type(MODELS.build(vae.model)).latent_sizes(
            vae.model.sequence_length, vae.model.spatial_size, vae.model.down, vae.model.hex_down
        )
        assert sizes == model.txyz
        assert vae.model.latent_channels == network.in_channels
        # The VAE that decodes is the one whose rollouts are diffused.
        decoder, trained = (
            {k: v for k, v in part.items() if k not in ("init_cfg", "with_checkpoint")}
            for part in (cfg.model.get("vae") or cfg.vae_model, vae.model)
        )
        assert decoder == trained
