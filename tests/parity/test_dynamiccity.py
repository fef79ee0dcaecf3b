"""DynamicCity against its golden vectors."""

import numpy as np
import pytest
import torch

from mmcity.datasets.occupancy_labels import (
    CARLASC_FREQUENCIES,
    CARLASC_TO_UNIFIED,
    remap_labels,
)
from mmcity.datasets.transforms.occupancy import (
    flip_clip,
    planar_command,
    planar_trajectory,
    vehicle_layout,
)
from mmcity.evaluation.functional.generation import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from mmcity.evaluation.functional.occupancy import count_occupancy
from mmcity.models.dynamiccity.conditions import grid_sincos
from mmcity.models.dynamiccity.decoder import encode_positions, expand_planes
from mmcity.models.dynamiccity.diffusion import GaussianDiffusion, respace_steps
from mmcity.models.dynamiccity.dit import HexPlaneDiT, apply_guidance
from mmcity.models.dynamiccity.hexplane import PLANES, from_rollout, rollout_mask, to_rollout
from mmcity.models.dynamiccity.vae import HexPlaneVAE, hexplane_kl
from mmcity.models.losses.occupancy import (
    LovaszSoftmaxLoss,
    WeightedCrossEntropyLoss,
    class_weights_from_frequency,
)
from tests.parity._golden import find_cases, vectors

MODULE = {"rtol": 1e-4, "atol": 1e-5}
NETWORK = {"rtol": 1e-3, "atol": 1e-4}
CONDITION_NAMES = {
    "hex_cond": "hexplane",
    "layout_cond": "layout",
    "traj_cond": "trajectory",
    "cmd_cond": "command",
}


def load(path):
    return torch.load(path, weights_only=True)


def files(prefix):
    return vectors(prefix, "dynamiccity", ".pt")


def numbers(golden, prefix):
    """Entries whose key is ``prefix`` and a number, by the number."""
    found = {key: value for key, value in golden.items() if key.startswith(prefix)}
    assert found, f"no entry '{prefix}...'"
    return {int(key.removeprefix(prefix)): value for key, value in found.items()}


def build_vae(meta, loss_weights=None):
    return HexPlaneVAE(
        loss_weights=loss_weights,
        num_classes=meta["num_classes"],
        spatial_size=meta["size"],
        sequence_length=meta["T"],
        latent_channels=meta["latent_channels"],
        query_channels=meta["query_channels"],
        down=meta["down_xyz"],
        hex_down=meta["hex_down_txyz"],
        vae=meta["vae"],
        separate_t_encoder=meta["separate_t_encoder"],
        one_hot_time=meta["one_hot_time"],
        separate_t_reducer=meta["separate_t_reducer"],
        transformer_depth=meta["transformer_depth"],
        transformer_heads=meta["transformer_heads"],
        transformer_dim_mlp=meta["transformer_dim_mlp"],
        dropout=meta["dropout"],
        hadamard=meta["hadamard"],
        pe_freq=meta["pe_freq"],
        conv_hidden_low_res=meta["conv_hidden_low_res"],
        conv_hidden_high_res=meta["conv_hidden_high_res"],
    )


def assert_gradients(module, expected):
    for name, parameter in module.named_parameters():
        if expected.get(name, 0.0) > 1e-6:
            norm = float(parameter.grad.norm())
            assert norm == pytest.approx(expected[name], rel=1e-3), name


@pytest.fixture(params=find_cases("vae", "dynamiccity", ".pt"), ids=lambda path: path.stem)
def vae_case(request):
    golden = load(request.param)
    model = build_vae(golden["meta"], golden["train"]["loss_weights"])
    model.load_state_dict(golden["state_dict"], strict=True)
    return model.eval(), golden


def assert_planes(planes, expected, **tolerance):
    for name, plane in zip(PLANES, planes):
        torch.testing.assert_close(plane, expected[name], **tolerance)


@torch.no_grad()
def test_vae_encoder_stages(vae_case):
    model, golden = vae_case
    encoder = model.encoder
    spatial, temporal = encoder.encode_voxels(golden["voxels"])
    torch.testing.assert_close(
        spatial.transpose(1, 2).flatten(0, 1), golden["voxel_encoder_out"], **MODULE
    )
    if golden.get("t_encoder_out") is not None and encoder.t_encoder is not None:
        torch.testing.assert_close(
            temporal.transpose(1, 2).flatten(0, 1), golden["t_encoder_out"], **MODULE
        )
    if encoder.separate_t_reducer:
        spatial = encoder.project(spatial, "xyz")
        torch.testing.assert_close(spatial, golden["xyz_volume"], **MODULE)
    projected = [encoder.project(temporal if "t" in n else spatial, n) for n in PLANES]
    assert_planes(projected, golden["projection_planes"], **MODULE)
    assert_planes(encoder(golden["voxels"]), golden["encoder_planes"], **MODULE)
    mus, logvars = model.encode(golden["voxels"])
    assert_planes(mus, golden["mu"], **MODULE)
    assert_planes(logvars, golden["logvar"], **MODULE)


@torch.no_grad()
def test_vae_decoder_stages(vae_case):
    model, golden = vae_case
    planes = [golden["mu"][name] for name in PLANES]
    decoder = model.decoder
    assert_planes(decoder.conv_block(planes), golden["decoder_conv_block"], **MODULE)
    upsampled = decoder.upsample(planes)
    assert_planes(upsampled, golden["decoder_upsampled"], **MODULE)
    volume = expand_planes(upsampled, decoder.hadamard)
    torch.testing.assert_close(volume[:, 0], golden["es_volume_channel0"], **NETWORK)
    torch.testing.assert_close(volume.mean(1), golden["es_volume_mean_over_channels"], **NETWORK)
    torch.testing.assert_close(model.decode(planes), golden["logits_eval"], **NETWORK)
    agree = (model.decode_labels(planes) == golden["labels_eval"]).float().mean()
    assert agree >= 0.999
    if golden["rollout"] is not None:
        torch.testing.assert_close(to_rollout(planes), golden["rollout"], rtol=0, atol=0)


def test_vae_training_step(vae_case):
    model, golden = vae_case
    train = golden["train"]
    model.train()
    model.loss_ce.weight = train["ce_weight"]
    mus, logvars = model.encode(golden["voxels"])
    noise = golden["eps"]
    planes = [m + noise[n] * (0.5 * v).exp() for m, v, n in zip(mus, logvars, PLANES)]
    assert_planes(planes, train["z"], **MODULE)
    logits = model.decode(planes)
    torch.testing.assert_close(logits, train["logits"], **NETWORK)
    losses = model.compute_losses(golden["voxels"], logits, mus, logvars)
    weights = train["loss_weights"]
    for name in ("ce", "lovasz", "kl"):
        torch.testing.assert_close(losses[f"loss_{name}"], weights[name] * train[name], **NETWORK)
    total = sum(losses.values())
    torch.testing.assert_close(total, train["total"], **NETWORK)
    total.backward()
    assert_gradients(model, train["grad_norm"])


def test_vae_metrics(vae_case):
    model, golden = vae_case
    metrics = golden["metrics"]
    counts = count_occupancy(
        golden["labels_eval"], golden["voxels"], model.num_classes, 0, ~metrics["invalid_mask"]
    )
    assert_metrics(counts, metrics)


def assert_metrics(counts, expected):
    torch.testing.assert_close(
        counts.class_iou(), expected["cls_iou"].double(), rtol=1e-5, atol=1e-4
    )
    occupied = torch.ones_like(counts.present())
    occupied[0] = False
    assert counts.binary_iou() == pytest.approx(expected["bin_iou"], abs=1e-4)
    assert counts.mean_iou(counts.present() & occupied) == pytest.approx(
        expected["miou_present"], abs=1e-4
    )
    assert counts.mean_iou(occupied) == pytest.approx(expected["miou_all_nonfree"], abs=1e-4)


@files("ops")
def test_metrics_on_labels(path):
    golden = load(path)["metrics"]
    classes = len(golden["cls_iou"])
    assert_metrics(count_occupancy(golden["pred"], golden["gt"], classes, 0), golden)


@files("ops")
def test_rollout_and_masks(path):
    golden = load(path)["rollout"]
    planes = [golden["planes"][name] for name in PLANES]
    rollout = to_rollout(planes)
    torch.testing.assert_close(rollout, golden["rollout"], rtol=0, atol=0)
    for plane, back in zip(planes, from_rollout(rollout, golden["txyz"])):
        torch.testing.assert_close(back, plane, rtol=0, atol=0)
    torch.testing.assert_close(rollout_mask(golden["txyz"]), golden["mask"], rtol=0, atol=0)
    for patch, mask in numbers(golden, "patch_mask_p").items():
        torch.testing.assert_close(rollout_mask(golden["txyz"], patch), mask, rtol=0, atol=0)


@files("ops")
def test_position_encodings(path):
    ops = load(path)
    golden = ops["posenc"]
    batch, frames, *size = golden["shape"]
    encoded = encode_positions(torch.arange(frames), size, golden["freqs"])
    expected = golden["out"]  # (B, T, X, Y, Z, 8F)
    torch.testing.assert_close(encoded.movedim(1, -1).expand(batch, *[-1] * 5), expected, **MODULE)
    golden = ops["sincos"]
    torch.testing.assert_close(
        grid_sincos(golden["dim"], golden["grid"]), golden["embed"], **MODULE
    )


@files("ops")
def test_losses(path):
    golden = load(path)["losses"]
    classes = golden["logits"].shape[1]
    frequencies = np.bincount(CARLASC_TO_UNIFIED, CARLASC_FREQUENCIES, minlength=classes).tolist()
    torch.testing.assert_close(
        class_weights_from_frequency(frequencies), golden["ce_weight_carlasc"], rtol=1e-5, atol=0
    )
    logits = golden["logits"].movedim(1, -1).clone().requires_grad_()
    weighted = WeightedCrossEntropyLoss(frequencies)(logits, golden["gt"])
    torch.testing.assert_close(weighted, golden["ce_weighted"], **MODULE)
    plain = WeightedCrossEntropyLoss()(logits, golden["gt"])
    torch.testing.assert_close(plain, golden["ce_plain"], **MODULE)
    lovasz = LovaszSoftmaxLoss()(logits, golden["gt"])
    torch.testing.assert_close(lovasz, golden["lovasz"], **MODULE)
    lovasz.backward()
    torch.testing.assert_close(logits.grad.movedim(-1, 1), golden["lovasz_grad"], **MODULE)
    kl = hexplane_kl(golden["kl_mus"], golden["kl_logvars"])
    torch.testing.assert_close(kl, golden["kl"], **MODULE)


@files("ops")
def test_data_preparation(path):
    ops = load(path)
    golden = ops["label_remap"]
    assert golden["table"].tolist() == list(CARLASC_TO_UNIFIED)
    mapped = remap_labels(golden["raw"].numpy(), CARLASC_TO_UNIFIED)
    np.testing.assert_array_equal(mapped, golden["mapped"].numpy())
    golden = ops["layout"]
    layout = vehicle_layout(golden["voxels"].numpy(), golden["down"])
    np.testing.assert_array_equal(layout, golden["layout"].numpy())
    golden = ops["augment"]
    for flip_type, expected in golden["out"].items():
        for key in ("voxels", "masks"):
            flipped = flip_clip(golden[key].numpy(), int(flip_type))
            np.testing.assert_array_equal(flipped, expected[key].numpy())
        paths = sorted(expected["paths"], reverse=bool(int(flip_type) & 4))
        assert paths == list(expected["paths"])


@files("ops")
def test_trajectory_and_command(path):
    for case in load(path)["trajectory"]:
        rows = case["poses"].numpy()
        poses = np.stack([rows[:, 3], rows[:, 7], np.arctan2(rows[:, 4], rows[:, 0])], axis=1)
        np.testing.assert_allclose(planar_trajectory(poses), case["trajectory"].numpy(), atol=1e-9)
        assert planar_command(poses) == case["command"], case["kind"]


@files("ops")
def test_diffusion_tables(path):
    golden = load(path)["diffusion"]
    diffusion = GaussianDiffusion()
    for name in (
        "betas",
        "alphas_cumprod",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    ):
        np.testing.assert_allclose(
            getattr(diffusion, name)[golden["index"]], golden[name].numpy(), rtol=1e-9
        )
    for spacing, steps in golden["respace"].items():
        assert respace_steps(len(diffusion), spacing) == list(steps), spacing
    for spacing, betas in numbers(golden, "respaced_betas_").items():
        respaced = GaussianDiffusion(spacing=spacing).betas
        np.testing.assert_allclose(respaced, betas.numpy(), rtol=1e-9)


def build_dit(golden, name):
    meta, case = golden["meta"], golden["models"][name]
    conditions = [CONDITION_NAMES[k] for k in CONDITION_NAMES if case["conds"].get(k)]
    model = HexPlaneDiT(
        in_channels=meta["in_channels"],
        txyz=meta["txyz"],
        sequence_length=meta["seq_len"],
        depth=case["depth"],
        hidden=meta["hidden"],
        heads=meta["heads"],
        patch_size=meta["patch_size"],
        mlp_ratio=meta["mlp_ratio"],
        conditions=conditions,
        cross_attention=bool(case["conds"].get("x_attn")),
    )
    missing, unexpected = model.load_state_dict(case["state_dict"], strict=False)
    assert missing == ["pos_embed"] and not unexpected
    return model.eval()


def dit_models():
    paths = find_cases("dit", "dynamiccity", ".pt")
    return [(path, name) for path in paths for name in load(path)["models"]]


def dit_conditions(golden, model):
    inputs = golden["inputs"]
    values = {
        "hexplane": inputs["hexplane"],
        "layout": inputs["layout"],
        "trajectory": inputs["traj"],
        "command": inputs["cmd"],
    }
    return {name: values[name] for name in model.conditions}


@torch.no_grad()
@pytest.mark.parametrize(
    "path, name", dit_models(), ids=lambda value: getattr(value, "stem", value)
)
def test_dit_forward(path, name):
    golden = load(path)
    model, case, inputs = build_dit(golden, name), golden["models"][name], golden["inputs"]
    x, t = inputs["x"], inputs["t"]
    conditions = dit_conditions(golden, model)
    torch.testing.assert_close(model(x, t, conditions), case["out"], **NETWORK)
    if not model.conditions:
        torch.testing.assert_close(model.pos_embed.data, case["pos_embed"], **MODULE)
        model.drop_tokens = False
        torch.testing.assert_close(model(x, t), case["out_without_patch_mask"], **NETWORK)
        return
    second = torch.arange(len(x)) == 1
    drop = dict.fromkeys(model.conditions, second)
    out = model(x, t, conditions, drop)
    torch.testing.assert_close(out, case["out_inference_row1_null"], **NETWORK)
    everything = dict.fromkeys(model.conditions, torch.ones(len(x), dtype=torch.bool))
    torch.testing.assert_close(model(x, t, conditions, everything), case["out_all_null"], **NETWORK)
    torch.testing.assert_close(model(x, t), case["out_all_null"], **NETWORK)
    pair = {key: value[:2] for key, value in conditions.items()}
    drop = {key: value[:2] for key, value in drop.items()}
    for scale, expected in numbers(case, "out_cfg_").items():
        guided = apply_guidance(model(x[[0, 0]], t[:2], pair, drop), float(scale))
        torch.testing.assert_close(guided, expected, **NETWORK)


@files("dit")
def test_dit_training_loss(path):
    golden = load(path)
    expected = golden["training_loss"]
    model = build_dit(golden, expected["model"])
    conditions = dit_conditions(golden, model)
    diffusion = GaussianDiffusion()
    x_start, t, noise = expected["x_start"], expected["t"], expected["noise"]
    torch.testing.assert_close(diffusion.q_sample(x_start, t, noise), expected["x_t"], **MODULE)

    def denoise(x, t):
        return model(x, t, conditions)

    mask = golden["inputs"]["rollout_mask"]
    losses = diffusion.training_losses(denoise, x_start, t, noise, mask)
    for name in ("mse", "vb", "loss"):
        torch.testing.assert_close(losses[name], expected[name], **NETWORK)
    losses["loss"].mean().backward()
    assert_gradients(model, expected["grad_norm"])
    with torch.no_grad():
        unmasked = diffusion.training_losses(denoise, x_start, t, noise)
    torch.testing.assert_close(unmasked["loss"], expected["loss_unmasked"], **NETWORK)


def assert_chain(state, expected):
    assert float((state - expected).norm() / expected.norm()) < 1e-3


@torch.no_grad()
@files("dit")
def test_ancestral_chain_and_decoding(path):
    golden = load(path)
    chain = golden["ancestral_chain"]
    model = build_dit(golden, chain["model"])
    diffusion = GaussianDiffusion(spacing=chain["respacing"])
    assert diffusion.timestep_map == list(chain["timestep_map"])
    conditions = {name: value[:1] for name, value in dit_conditions(golden, model).items()}
    conditions["command"] = torch.tensor(chain["cmd"][:1])
    for name in chain["drop"]:
        conditions[name] = None
    x = torch.cat([chain["x_T"], chain["x_T"]])
    for k, index in enumerate(range(len(diffusion) - 1, -1, -1)):
        t = torch.tensor([index])
        out = model.forward_guided(
            x[:1], diffusion.original_timesteps(t), chain["cfg_scale"], conditions
        )
        x = diffusion.ancestral_step(out, x, t.expand(2), chain["step_noise"][k])
        assert_chain(x, chain["steps"][k])
    assert_chain(x[:1], chain["final_rollout"])

    decoded = golden["decoded"]
    case = load(path.with_name(decoded["vae_file"]))
    vae = build_vae(case["meta"])
    vae.load_state_dict(case["state_dict"])
    planes = from_rollout(chain["final_rollout"], golden["meta"]["txyz"])
    logits = vae.eval().decode(planes)
    torch.testing.assert_close(logits[:, 0], decoded["logits_t0"], rtol=1e-3, atol=1e-3)
    assert float(logits.double().sum()) == pytest.approx(decoded["logits_sum"], rel=1e-3)
    assert (logits.argmax(-1) == decoded["labels"]).float().mean() >= 0.999


@torch.no_grad()
@files("dit")
def test_ddim_chain(path):
    golden = load(path)
    chain = golden["ddim_chain"]
    model = build_dit(golden, chain["model"])
    diffusion = GaussianDiffusion(spacing=chain["respacing"])
    assert diffusion.timestep_map == list(chain["timestep_map"])
    x = chain["x_T"]
    for k, index in enumerate(range(len(diffusion) - 1, -1, -1)):
        t = torch.tensor([index])
        x = diffusion.ddim_step(model(x, diffusion.original_timesteps(t)), x, t)
        assert_chain(x, chain["steps"][k])


@files("gen_metrics")
def test_generation_metrics(path):
    golden = load(path)
    real, fake = golden["real"], golden["fake"]
    assert frechet_distance(real, fake) == pytest.approx(golden["fid"], rel=1e-8)
    assert kernel_distance(real, fake) == pytest.approx(golden["kid_full_set"], rel=1e-8)
    for k, expected in numbers(golden, "precision_recall_k").items():
        assert precision_recall(real, fake, k) == pytest.approx(expected)
    for splits, expected in numbers(golden, "inception_score_splits").items():
        assert inception_score(golden["fake_class_logits"], splits) == pytest.approx(expected)
