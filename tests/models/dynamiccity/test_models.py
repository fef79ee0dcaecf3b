"""HexPlane models: sizes, switches, precision, and properties of rollouts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcity.models.dynamiccity import HexPlaneDiT, HexPlaneVAE, OccFeatureNet, OccResampler
from mmcity.models.dynamiccity.columns import ColumnFold, ColumnUnfold
from mmcity.models.dynamiccity.decoder import VoxelDecoder
from mmcity.models.dynamiccity.encoder import HexPlaneEncoder
from mmcity.models.dynamiccity.hexplane import (
    from_rollout,
    plane_sizes,
    rollout_mask,
    to_rollout,
)

SMALL = {
    "spatial_size": (16, 16, 8),
    "sequence_length": 4,
    "latent_channels": 4,
    "query_channels": 8,
    "conv_hidden_low_res": 8,
    "conv_hidden_high_res": 8,
    "transformer_depth": 1,
    "dropout": 0.0,
}


def clip(batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 12, (batch, 4, 16, 16, 8), generator=generator)


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        vae = HexPlaneVAE()
    assert sum(p.numel() for p in vae.parameters()) == 1_699_288
    assert sum(p.numel() for p in vae.encoder.parameters()) == 192_688
    assert sum(p.numel() for p in vae.decoder.parameters()) == 1_503_336


def test_loss_weights_of_the_paper():
    with torch.device("meta"):
        vae = HexPlaneVAE()
    assert (vae.loss_ce.loss_weight, vae.loss_lovasz.loss_weight) == (1, 1)
    assert vae.kl_weight == pytest.approx(0.0015)


@pytest.mark.parametrize(
    "options, count",
    [
        ({}, 43_730_432),
        ({"depth": 18, "hidden": 768, "heads": 12}, 194_536_832),
        (
            {
                "conditions": ("hexplane", "layout", "trajectory", "command"),
                "cross_attention": True,
            },
            53_533_249,
        ),
    ],
)
def test_dit_parameter_counts_of_the_paper(options, count):
    dit = HexPlaneDiT(**options)
    assert sum(p.numel() for p in dit.parameters()) == count
    assert len(dit.valid_tokens) == 1416 and dit.grid**2 == 1444


@given(
    t=st.integers(1, 4),
    x=st.integers(1, 6),
    z=st.integers(1, 4),
    channels=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_rollout_inverts_for_all_sizes(t, x, z, channels):
    txyz = (t, x, x, z)
    planes = [torch.randn(2, channels, a, b) for a, b in plane_sizes(txyz)]
    rollout = to_rollout(planes)
    assert rollout.shape == (2, channels, x + t + z, x + t + z)
    for plane, back in zip(planes, from_rollout(rollout, txyz)):
        assert torch.equal(plane, back)
    assert rollout_mask(txyz).sum() == sum(a * b for a, b in plane_sizes(txyz))
    assert not (rollout * (1 - rollout_mask(txyz))).any()


def test_rollout_needs_square_planes():
    planes = [torch.zeros(1, 1, a, b) for a, b in plane_sizes((2, 4, 6, 2))]
    with pytest.raises(ValueError, match="x == y"):
        to_rollout(planes)
    with pytest.raises(ValueError, match="the patch 2"):
        rollout_mask((3, 4, 4, 2), 2)


@pytest.mark.parametrize(
    "options",
    [
        {"projector": "average"},
        {"decoder_type": "query", "mlp_hidden_channels": 16},
        {"projector": "average", "decoder_type": "query", "mlp_hidden_channels": 16},
        {"readout": "mean"},
        {"readout": "token"},
        {"columns": 8},
        {"columns": 8, "hex_down": (1, 1, 1, 0)},
        {"columns": 8, "kernel": 1, "norm": False, "hadamard": False, "separate_t_encoder": False},
        {"vae": False},
        {"separate_t_encoder": False},
        {"one_hot_time": False},
        {"separate_t_reducer": False},
        {"hadamard": False},
        {"down": (1, 1, 0)},
        {"down": (2, 2, 1), "hex_down": (2, 0, 0, 1)},
        {"hex_down": (1, 1, 1, 0)},
    ],
)
def test_vae_switches_train_every_parameter(options):
    torch.manual_seed(0)
    model = HexPlaneVAE(**{**SMALL, **options})
    losses = model({"voxels": clip()}, mode="loss")
    assert set(losses) == {"loss_ce", "loss_lovasz"} | (
        {"loss_kl"} if model.vae is not None else set()
    )
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert model({"voxels": clip()}).shape == (1, 4, 16, 16, 8, 12)


def test_a_folded_column_is_a_linear_layer_on_its_one_hot_labels():
    torch.manual_seed(0)
    fold = ColumnFold(12, block=(4, 2, 1, 8), hidden=6, channels=3)
    labels = torch.randint(0, 12, (2, 4, 8, 5, 8))
    planes = fold(labels)
    assert planes.shape == (2, 3, 4, 5)
    for b, x, y in ((0, 0, 0), (1, 3, 4), (1, 2, 1)):
        column = F.one_hot(labels[b, :, 2 * x : 2 * x + 2, y], 12).float().flatten()
        torch.testing.assert_close(planes[b, :, x, y], fold.mlp(column @ fold.table))


def test_an_unfolded_column_has_weights_of_its_own_for_each_voxel():
    torch.manual_seed(0)
    unfold = ColumnUnfold(6, 5, block=(4, 2, 1, 3))
    plane = torch.randn(2, 6, 4, 5)
    logits = unfold(plane)
    assert logits.shape == (2, 4, 8, 5, 3, 5)
    for b, t, x, y, z in ((0, 0, 0, 0, 0), (1, 3, 7, 4, 2), (1, 2, 4, 1, 1)):
        cell = plane[b, :, x // 2, y]
        expected = unfold.weight[t, x % 2, 0, z] @ cell + unfold.bias[t, x % 2, 0, z]
        torch.testing.assert_close(logits[b, t, x, y, z], expected)
    torch.testing.assert_close(unfold(plane, slice(1, 3)), logits[:, 1:3])


def test_the_table_of_a_pointwise_stem_gives_what_the_convolutions_give():
    torch.manual_seed(0)
    encoder = HexPlaneEncoder(
        12, (8, 8, 8), 4, 4, separate_t_encoder=False, kernel=1, norm=False, transformer_heads=1
    )
    labels = clip()[:, :, :8, :8]
    assert encoder.pointwise
    with_table, _ = encoder.encode_voxels(labels)
    encoder.pointwise = False
    with_convolutions, _ = encoder.encode_voxels(labels)
    torch.testing.assert_close(with_table, with_convolutions)


def test_logits_without_norm_do_not_depend_on_the_rest_of_the_clip():
    """The voxel decoder alone, with its blocks switched off: what is left is local."""
    changes = []
    for norm in (True, False):
        torch.manual_seed(0)
        decoder = VoxelDecoder(4, 8, 8, 12, (0, 0, 0), 1, norm=norm)
        decoder.conv_layers = torch.nn.ModuleList()
        volume = torch.randn(1, 4, 8, 8, 4)
        changed = volume.clone()
        changed[:, :, :4] *= 3
        frames = torch.zeros(1, dtype=torch.long)
        far = (decoder(volume, frames) - decoder(changed, frames))[:, :, 4:]
        changes.append(far.abs().max().item())
    assert changes[0] > 1e-3 and changes[1] == 0


def test_checkpointing_changes_no_gradient():
    gradients = []
    for with_checkpoint in (False, True):
        torch.manual_seed(0)
        model = HexPlaneVAE(**SMALL, with_checkpoint=with_checkpoint)
        torch.manual_seed(1)
        sum(model({"voxels": clip()}, mode="loss").values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(plain, recomputed)


def test_frames_decode_one_by_one_as_all_at_once():
    torch.manual_seed(0)
    model = HexPlaneVAE(**SMALL).eval()
    mus, _ = model.encode(clip())
    whole = model.decode(mus)
    torch.testing.assert_close(model.decode(mus, slice(2, 3)), whole[:, 2:3])
    assert torch.equal(model.decode_labels(mus, 1), whole.argmax(-1).to(torch.uint8))


def test_evaluation_is_deterministic_with_dropout():
    torch.manual_seed(0)
    model = HexPlaneVAE(**{**SMALL, "dropout": 0.5}).eval()
    first, second = (model.encode(clip())[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="along x: expected"):
        HexPlaneVAE(**{**SMALL, "spatial_size": (15, 16, 8)})
    with pytest.raises(ValueError, match="clips: expected 4 frames, got 3"):
        HexPlaneVAE(**SMALL)({"voxels": clip()[:, :3]})
    with pytest.raises(ValueError, match="num_classes = 12"):
        HexPlaneVAE(**SMALL, class_frequencies=[1, 2])
    with pytest.raises(ValueError, match="unknown conditions"):
        HexPlaneDiT(conditions=("weather",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 3])
def test_dit_runs_in_any_precision_and_batch(dtype, batch):
    torch.manual_seed(0)
    model = HexPlaneDiT(
        4, (2, 8, 8, 4), 4, depth=1, hidden=32, heads=4, conditions=("command", "layout")
    )
    for parameter in model.parameters():  # zero-initialised layers would hide everything
        torch.nn.init.normal_(parameter, std=0.05)
    model = model.to(dtype).eval()
    conditions = {
        "command": torch.arange(batch) % 4,
        "layout": torch.zeros(batch, 4, 4, 4, dtype=dtype),
    }
    x = torch.randn(batch, 4, 14, 14).to(dtype)
    out = model(x, torch.arange(batch), conditions)
    assert out.dtype == dtype and out.shape == (batch, 8, 14, 14)
    padding = rollout_mask((2, 8, 8, 4), 1) == 0
    assert not out[:, :, padding[0, 0]].any() and out.abs().max() > 0


def test_null_condition_equals_a_missing_one():
    torch.manual_seed(0)
    model = HexPlaneDiT(
        4, (2, 8, 8, 4), 4, depth=1, hidden=32, heads=4, conditions=("command", "trajectory")
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.eval()
    x, t = torch.randn(2, 4, 14, 14), torch.tensor([3, 700])
    conditions = {"command": torch.tensor([1, 2]), "trajectory": torch.randn(2, 4, 3)}
    drop = dict.fromkeys(conditions, torch.tensor([True, True]))
    torch.testing.assert_close(model(x, t, conditions, drop), model(x, t))
    guided = model.forward_guided(x, t, 1.0, conditions)
    torch.testing.assert_close(guided[:2, :4], model(x, t, conditions)[:, :4])


@pytest.mark.parametrize(
    ("pool", "expected"), [("majority", [0, 2]), ("occupied", [5, 2]), ("nearest", [0, 2])]
)
def test_resampling_repeats_one_label_a_block(pool, expected):
    clip = torch.zeros(1, 2, 4, 2, 1, dtype=torch.uint8)
    clip[0, 0, 1, 1, 0] = 5  # one of eight voxels of the first block
    clip[0, :, 2:, :, 0] = 2
    clip[0, 1, 3, 1, 0] = 0
    result = OccResampler((2, 2, 2, 1), pool)({"voxels": clip})
    assert result.shape == clip.shape
    assert (result[0, :, :2] == expected[0]).all() and (result[0, :, 2:] == expected[1]).all()


def test_resampling_needs_whole_blocks():
    with pytest.raises(ValueError, match="divisible"):
        OccResampler((2, 2, 2, 1))({"voxels": torch.zeros(1, 3, 4, 4, 2, dtype=torch.uint8)})


def test_feature_net_learns_and_extracts():
    torch.manual_seed(0)
    model = OccFeatureNet(channels=(8, 16, 16), corruption=0.1)
    clip = torch.zeros(2, 1, 16, 16, 4, dtype=torch.uint8)
    clip[0, :, :8, :, 0], clip[1, :, 8:, :, 1] = 6, 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = None
    for _ in range(80):
        losses = model({"voxels": clip}, mode="loss")
        loss = sum(losses.values())
        first = float(loss.detach()) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.5 * first
    features, logits = model.extract(clip.flatten(0, 1))
    assert features.shape == (2, model.histogram.in_features)
    # The histogram head tells road from building.
    assert logits.argmax(1).tolist() == [6, 1]
    samples = model({"voxels": clip}, mode="predict")
    assert (samples[0].pred_occupancy == clip[0]).float().mean() > 0.9


def test_latents_can_start_with_little_noise():
    torch.manual_seed(0)
    model = HexPlaneVAE(**SMALL, initial_logvar=-5.0)
    _, logvars = model.encode(clip())
    assert all(torch.equal(v, torch.full_like(v, -5.0)) for v in logvars)
