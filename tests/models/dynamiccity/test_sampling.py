"""Samplers against the exact solution for Gaussian data; inpainting; long generation."""

import numpy as np
import pytest
import torch

from mmcity.apis import OccupancyGenerator
from mmcity.engine.checkpointing import CheckpointError
from mmcity.models.dynamiccity import (
    AncestralSampler,
    DDIMSampler,
    DPMSolverSampler,
    HexPlaneDiffusion,
)
from mmcity.models.dynamiccity.diffusion import GaussianDiffusion, respace_steps
from mmcity.models.dynamiccity.hexplane import rollout_mask, to_rollout
from mmcity.models.dynamiccity.inpainting import RepaintSchedule, region_to_rollout_mask
from tests.devices import DEVICE

MEAN, STD = 1.5, 0.3


def exact_denoiser(x, t):
    """Noise of N(MEAN, STD^2) data, and the variance channel of the true posterior."""
    abar = torch.tensor(GaussianDiffusion().alphas_cumprod)[t].float().view(-1, 1)
    variance = abar * STD**2 + 1 - abar
    noise = (x - abar.sqrt() * MEAN) * (1 - abar).sqrt() / variance
    return torch.cat([noise, torch.full_like(noise, 1.0)], dim=1)


def exact_end(x):
    """End of the deterministic chain that starts at ``x``."""
    abar = GaussianDiffusion().alphas_cumprod[-1]
    return MEAN + STD * (x - abar**0.5 * MEAN) / (abar * STD**2 + 1 - abar) ** 0.5


@pytest.mark.parametrize(
    "sampler, error",
    [
        (DDIMSampler("1000"), 0.005),
        (DDIMSampler("ddim50"), 0.08),
        (DPMSolverSampler(20, order=2), 0.02),
        (DPMSolverSampler(20, order=3), 0.01),
        (DPMSolverSampler(50, order=3), 0.001),
    ],
)
def test_deterministic_samplers_follow_the_exact_path(sampler, error):
    x = torch.linspace(-2, 2, 9)[:, None]
    assert (sampler.sample(exact_denoiser, x) - exact_end(x)).abs().max() < error


def test_higher_order_converges_faster():
    x = torch.linspace(-2, 2, 9)[:, None]
    errors = {
        order: (DPMSolverSampler(20, order).sample(exact_denoiser, x) - exact_end(x)).abs().max()
        for order in (1, 2, 3)
    }
    assert errors[3] < errors[2] < errors[1]


@pytest.mark.parametrize(
    "sampler, error",
    [
        (AncestralSampler(100), 0.05),
        (DDIMSampler("ddim100", eta=1.0), 0.05),
        (DPMSolverSampler(50, order=1, stochastic=True), 0.05),
        (DPMSolverSampler(25, order=2, stochastic=True), 0.015),
    ],
)
def test_stochastic_chains_reproduce_the_distribution(sampler, error):
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator(x.device).manual_seed(1)
    samples = sampler.sample(exact_denoiser, x, generator)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert samples.std().item() == pytest.approx(STD, abs=error)
    # The noise of the steps, not the start, decides where a sample ends.
    again = sampler.sample(exact_denoiser, x, generator)
    assert abs(torch.corrcoef(torch.cat([samples, again], dim=1).T)[0, 1]) < 0.1


def test_noise_follows_from_the_velocity():
    torch.manual_seed(0)
    diffusion, t = GaussianDiffusion(), torch.tensor([0, 400, 999])
    start, noise = torch.randn(2, 3, 2, 4, 4)
    x = diffusion.q_sample(start, t, noise)
    abar = torch.tensor(diffusion.alphas_cumprod)[t].float().view(-1, 1, 1, 1)
    velocity = abar.sqrt() * noise - (1 - abar).sqrt() * start
    raw = torch.randn_like(noise)
    output = diffusion.noise_from_velocity(torch.cat([velocity, raw], dim=1), x, t)
    torch.testing.assert_close(output, torch.cat([noise, raw], dim=1), atol=1e-5, rtol=0)


def test_limit_of_the_clean_sample():
    """What lies within the limit stays; what does not ends on it."""
    torch.manual_seed(0)
    diffusion, t = GaussianDiffusion(), torch.tensor([50, 600])
    start, noise = 3 * torch.randn(2, 2, 2, 4, 4)
    x = diffusion.q_sample(start, t, noise)
    output = torch.cat([noise, torch.zeros_like(noise)], dim=1)
    limited = diffusion.limit_start(output, x, t, 2.0)
    found = diffusion.step_from_output(limited, x, t).x_start
    torch.testing.assert_close(found, start.clamp(-2, 2), atol=2e-3, rtol=0)
    torch.testing.assert_close(diffusion.limit_start(output, x, t, 99.0), output, atol=1e-4, rtol=0)


def test_wrong_spacings_are_refused():
    with pytest.raises(ValueError, match="expected an integer stride"):
        respace_steps(1000, "ddim999")
    with pytest.raises(ValueError, match="expected at most the 500 of a section, got 600"):
        respace_steps(1000, "600,100")
    with pytest.raises(ValueError, match="order: expected one of"):
        DPMSolverSampler(order=4)
    with pytest.raises(ValueError, match="order: expected 1 or 2"):
        DPMSolverSampler(order=3, stochastic=True)


def build_model(conditions=("hexplane", "command", "trajectory", "layout")):
    torch.manual_seed(0)
    vae = {
        "type": "HexPlaneVAE",
        "spatial_size": (16, 16, 8),
        "sequence_length": 4,
        "latent_channels": 4,
        "query_channels": 8,
        "conv_hidden_low_res": 8,
        "conv_hidden_high_res": 8,
        "transformer_depth": 1,
    }
    denoiser = {
        "type": "HexPlaneDiT",
        "in_channels": 4,
        "txyz": (2, 8, 8, 4),
        "sequence_length": 4,
        "depth": 1,
        "hidden": 32,
        "heads": 4,
        "conditions": conditions,
    }
    sampler = {"type": "DPMSolverSampler", "spacing": 4}
    return {"type": "HexPlaneDiffusion", "denoiser": denoiser, "vae": vae, "sampler": sampler}


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    from mmengine.config import Config

    from mmcity.registry import MODELS

    cfg = build_model()
    model = MODELS.build(cfg)
    for name, parameter in model.denoiser.named_parameters():
        if "pos_embed" not in name:
            torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("generator") / "model.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return OccupancyGenerator(Config({"model": cfg}), path, device=DEVICE)


def test_training_loss_reaches_every_parameter():
    model = HexPlaneDiffusion(**{k: v for k, v in build_model().items() if k != "type"})
    for name, parameter in model.denoiser.named_parameters():
        if "pos_embed" not in name:
            torch.nn.init.normal_(parameter, std=0.05)
    inputs = {
        "rollout": torch.randn(2, 4, 14, 14),
        "hexplane": torch.randn(2, 4, 14, 14),
        "command": torch.tensor([0, 3]),
        "trajectory": torch.randn(2, 4, 3),
        "layout": torch.ones(2, 4, 4, 4),
    }
    model.denoiser.eval()  # no random condition dropout
    sum(model(inputs, mode="loss").values()).backward()
    without = [
        n for n, p in model.denoiser.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert not without
    assert not [n for n, p in model.vae.named_parameters() if p.requires_grad]


def test_standardisation_is_undone():
    model = HexPlaneDiffusion(
        **{k: v for k, v in build_model(()).items() if k != "type"}, normalize="plane_channel"
    )
    model.set_statistics(torch.randn(6, 4), torch.rand(6, 4) + 0.5)
    rollout = torch.randn(1, 4, 14, 14) * rollout_mask((2, 8, 8, 4))
    standard = model.standardize(rollout)
    assert not torch.allclose(standard, rollout)
    torch.testing.assert_close(model.unstandardize(standard), rollout)
    with pytest.raises(ValueError, match="expected positive numbers"):
        model.set_statistics(torch.zeros(6, 4), torch.zeros(6, 4))


def test_seeded_generation_repeats_and_conditions_matter(generator):
    options = {"num_samples": 2, "seed": 5}
    first = generator.generate(**options)
    assert first.shape == (2, 4, 16, 16, 8) and first.dtype == torch.uint8
    assert torch.equal(first, generator.generate(**options))
    assert not torch.equal(first, generator.generate(command=2, **options))
    with pytest.raises(ValueError, match=r"commands: expected 0\.\.3"):
        generator.generate(command=7)


def test_inpainting_leaves_the_outside_alone(generator):
    clip = torch.randint(0, 12, (1, 4, 16, 16, 8), dtype=torch.uint8)
    region = torch.zeros(4, 16, 16, 8, dtype=torch.bool)
    region[:, 4:10, 2:9] = True
    result = generator.inpaint(clip, region, schedule=RepaintSchedule(2, 2), seed=1)
    assert torch.equal(result[:, ~region], clip[:, ~region])
    # Nothing of the replaced content can reach the result.
    other = clip.clone()
    other[:, region] = (other[:, region] + 1) % 12
    again = generator.inpaint(other, region, schedule=RepaintSchedule(2, 2), seed=1)
    assert torch.equal(result[:, region], again[:, region])


def test_long_generation_joins_windows(generator):
    trajectory = torch.zeros(12, 3)
    trajectory[:, 0] = torch.arange(12) * 0.5
    clips = generator.generate_long(3, 1, overlap=2, trajectory=trajectory, seed=3)
    assert clips.shape[1] == 4 + 2 * 2
    head = generator.generate_long(1, 1, overlap=2, trajectory=trajectory, seed=3)
    assert torch.equal(clips[:, :4], head)
    plain = generator.generate_long(2, 1, seed=3, command=1)
    assert plain.shape[1] == 8
    with pytest.raises(ValueError, match="overlap: expected a multiple of 2"):
        generator.generate_long(2, 1, overlap=1)
    with pytest.raises(
        ValueError, match="trajectory: expected 8 frames for the window from frame 4 on, got 5"
    ):
        generator.generate_long(2, 1, trajectory=torch.zeros(5, 3))


def test_a_call_draws_in_batches_from_arrays_and_files(generator, tmp_path):
    """Batches are what `generate` draws with their seeds and their share of the conditions."""
    layout = torch.randint(0, 2, (3, 4, 4, 4), dtype=torch.uint8)
    np.savez(tmp_path / "layout.npz", layout=layout.numpy())
    called = generator(3, command=[1, 2, 3], layout=tmp_path / "layout.npz", seed=0, batch_size=2)
    first = generator.generate(2, torch.tensor([1, 2]), layout=layout[:2], seed=0)
    last = generator.generate(1, 3, layout=layout[2:], seed=2)
    assert torch.equal(called.labels, torch.cat([first, last])) and called.seeds == [0, 0, 2]
    assert torch.equal(
        generator(command="left", seed=1).labels, generator.generate(command=2, seed=1)
    )
    with pytest.raises(ValueError, match="'static', 'forward'.* got 'back'"):
        generator(command="back")

    np.savez(tmp_path / "clip.npz", voxels=first[0].numpy())
    longer = generator(num_windows=2, clips=tmp_path / "clip.npz", seed=1).labels
    assert torch.equal(longer, generator.generate_long(2, start=first[:1], seed=1))
    region = torch.zeros(4, 16, 16, 8, dtype=torch.bool)
    region[:, 4:10, 2:9] = True
    changed = generator(clips=first[0], region=region, seed=1).labels
    assert torch.equal(changed, generator.inpaint(first[:1], region, seed=1))
    with pytest.raises(ValueError, match="give clips"):
        generator(region=region)


def test_weights_without_the_vae_are_refused(generator, tmp_path):
    weights = generator.model.state_dict()
    own = {k: v for k, v in weights.items() if not k.startswith("vae.")}
    torch.save({"state_dict": own}, tmp_path / "dit.pth")
    with pytest.raises(CheckpointError, match="give vae_checkpoint"):
        OccupancyGenerator(build_model(), tmp_path / "dit.pth", device=DEVICE)
    vae = {k.removeprefix("vae."): v for k, v in weights.items() if k.startswith("vae.")}
    torch.save({"state_dict": vae}, tmp_path / "vae.pth")
    both = OccupancyGenerator(
        build_model(), tmp_path / "dit.pth", tmp_path / "vae.pth", device=DEVICE
    )
    assert torch.equal(both.generate(seed=1), generator.generate(seed=1))


def test_each_window_gets_its_part_of_the_conditions(generator, monkeypatch):
    seen = []
    sample = generator.model.sample_rollouts
    monkeypatch.setattr(
        generator.model,
        "sample_rollouts",
        lambda count, conditions, *args, **kwargs: (
            seen.append(conditions) or sample(count, conditions, *args, **kwargs)
        ),
    )
    layout = torch.randint(0, 2, (2, 8, 4, 4))
    turn = torch.stack([torch.arange(8.0), torch.zeros(8), torch.full((8,), torch.pi / 2)], dim=-1)
    generator.generate_long(
        2, 2, layout=layout, trajectory=turn, command=torch.tensor([1, 2]), seed=3
    )
    assert [c["command"].tolist() for c in seen] == [[1, 2]] * 2
    for window in (0, 1):
        torch.testing.assert_close(
            seen[window]["layout"], layout[:, 4 * window : 4 * window + 4].float()
        )
        # One metre a frame along the world's x lies on the right of a car that looks along y.
        expected = torch.stack([torch.zeros(4), -torch.arange(4.0), torch.zeros(4)], dim=-1)
        torch.testing.assert_close(seen[window]["trajectory"][1], expected)
    with pytest.raises(ValueError, match="layout: expected 12 frames .*, got 8"):
        generator.generate_long(3, 2, layout=layout)


def test_windows_share_the_frames_the_model_was_trained_with(generator, monkeypatch):
    monkeypatch.setattr(generator.model, "predecessor_overlap", 2)
    seen = []
    sample = generator.model.sample_rollouts
    monkeypatch.setattr(
        generator.model,
        "sample_rollouts",
        lambda count, conditions, *args, **kwargs: (
            seen.append(conditions.get("hexplane")) or sample(count, conditions, *args, **kwargs)
        ),
    )
    clips = generator.generate_long(3, seed=3)
    assert clips.shape[1] == 4 + 2 * 2
    assert seen[0] is None
    # Each window is shown the four frames of the result that end with its own first two.
    for window in (1, 2):
        shown = generator.model.standardize(generator._encode(clips[:, 2 * window - 2 :][:, :4]))
        torch.testing.assert_close(seen[window], shown)
    with pytest.raises(ValueError, match="overlap: expected 2, .* share .*, got 0"):
        generator.generate_long(2, overlap=0)


def test_region_mask_covers_exactly_the_touched_cells():
    region = torch.zeros(1, 4, 16, 16, 8, dtype=torch.bool)
    region[0, 2, 5, 7, 3] = True
    mask = region_to_rollout_mask(region, (2, 8, 8, 4))
    planes = [torch.zeros(1, 1, a, b) for a, b in ((8, 8), (8, 4), (8, 4), (2, 8), (2, 8), (2, 4))]
    for plane, cell in zip(planes, ((2, 3), (2, 1), (3, 1), (1, 2), (1, 3), (1, 1))):
        plane[0, 0, cell[0], cell[1]] = 1
    assert torch.equal(mask, to_rollout(planes))


def test_repaint_schedule_ends_clean_and_balances():
    steps = list(RepaintSchedule(3, 4).steps(10))
    level = 10
    for index, is_forward in steps:
        assert index == (level if is_forward else level - 1)
        level += 1 if is_forward else -1
    assert level == 0 and steps[-1] == (0, False)
    assert sum(forward for _, forward in steps) == 9 + 9 + 9
