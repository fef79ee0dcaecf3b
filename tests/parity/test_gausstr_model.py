"""GaussTR's network, losses, rendering and labelling against golden vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmcity.models.gausstr import GaussTR, GaussTRDecoder, ViTDetFPN
from mmcity.models.gausstr.geometry import (
    augmented_intrinsics,
    inverse_sigmoid,
    pixels_to_ego,
    sine_encode,
)
from mmcity.models.gausstr.head import L1_SHARE, LOSS_WEIGHTS
from mmcity.models.gausstr.labelling import (
    OCC3D_VOCABULARY,
    _kept_prompts,
    _merge,
    label_voxels,
    prompt_probabilities,
)
from mmcity.models.gausstr.mlp import MLP
from mmcity.models.gausstr.pca import FeatureBasis, fit_pca
from mmcity.models.losses.depth import (
    cosine_distance,
    masked_l1,
    scale_invariant_log,
    upsampled_cosine_loss,
)
from mmcity.structures.geometry import quat_to_rotmat, rotmat_to_quat
from mmcity_ops import rasterization
from mmcity_ops.reference.covariance import covariances
from tests.parity._golden import Golden, find_cases, relative_l2, vectors

TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}


def load(path):
    return torch.load(path, weights_only=True)


def arrays(path):
    return Golden(path, torch.float32)


def close(got, want, **tolerance):
    torch.testing.assert_close(got, want.to(got.dtype), **{**TOLERANCE, **tolerance})


@vectors("geometry", "gausstr")
def test_geometry(path):
    golden = arrays(path)
    cameras = [golden[key] for key in ("cam2img", "cam2ego", "img_aug_mat")]
    lifted = pixels_to_ego(golden["points"], *cameras)
    close(lifted, golden["cam2world"])
    close(pixels_to_ego(golden["points"], *cameras[:2]), golden["cam2world_noaug"])
    rotmats = quat_to_rotmat(golden["quats"])
    close(rotmats, golden["quat_to_rotmat"])
    quats = rotmat_to_quat(rotmats)
    sign = (quats * golden["rotmat_to_quat"]).sum(-1, keepdim=True).sign()
    close(quats * sign, golden["rotmat_to_quat"])
    close(covariances(golden["rotmats"], golden["scales"]), golden["covariances"])
    encoded = [key for key in golden.arrays if "_numfeats" in key]
    assert encoded
    for key in encoded:
        coordinates, features = key.removeprefix("enc").split("_numfeats")
        close(sine_encode(golden[f"enc_coord{coordinates}"], int(features)), golden[key])
    close(inverse_sigmoid(golden["inv_sigmoid_in"]), golden["inv_sigmoid_out"])


@torch.no_grad()
@vectors("neck", "gausstr", ".pt")
def test_neck(path):
    golden = load(path)
    neck = ViTDetFPN(golden["config"]["in_channels"], golden["config"]["out_channels"])
    neck.load_state_dict(golden["state_dict"], strict=True)
    for level, expected in zip(neck(golden["x"]), golden["outs"], strict=True):
        close(level, expected)


def build_decoder(config):
    return {
        "num_layers": config["num_layers"],
        "layer_cfg": {
            "embed_dims": config["embed_dims"],
            "self_attn_heads": config.get("num_heads_self", config.get("heads_self")),
            "cross_attn_heads": config.get("num_heads_cross", config.get("heads_cross")),
            "num_levels": config.get("num_levels", 4),
            "num_points": config.get("num_points", 4),
            "ffn_channels": config["ffn"],
        },
    }


@torch.no_grad()
@vectors("decoder", "gausstr", ".pt")
def test_decoder(path):
    golden = load(path)
    config = golden["config"]
    decoder = GaussTRDecoder(**build_decoder(config)).eval()
    decoder.load_state_dict(golden["state_dict"], strict=True)
    branches = []
    for state in golden["reg_branches"]:
        branch = MLP(config["embed_dims"], output_dim=3)
        branch.load_state_dict(state)
        branches.append(branch)
    query, points = golden["query"], golden["reference_points"]
    position = decoder.query_position(points)
    close(position, golden["query_pos_layer0"])
    layer = decoder.layers[0]
    shapes = golden["spatial_shapes"]
    crossed = layer.cross_attn(query, position, golden["value"], points, shapes)
    close(crossed, golden["cross_attn_layer0"])
    close(layer(query, position, golden["value"], points, shapes), golden["layer0_out"])
    outputs, references = decoder(query, golden["value"], points, shapes, branches)
    close(outputs, golden["hidden_states"], atol=5e-5)
    close(references, golden["references"])


def build_model(config, **options):
    dims = config["embed_dims"]
    return GaussTR(
        num_queries=config["num_queries"],
        embed_dims=dims,
        neck={"type": "ViTDetFPN", "in_channels": config["feat_dims"], "out_channels": dims},
        decoder={"type": "GaussTRDecoder", **build_decoder(config)},
        gauss_head={
            "type": "GaussTRHead",
            "opacity_head": {"type": "MLP", "input_dim": dims, "output_dim": 1, "mode": "sigmoid"},
            "feature_head": {"type": "MLP", "input_dim": dims, "output_dim": config["feat_dims"]},
            "scale_head": {
                "type": "MLP",
                "input_dim": dims,
                "output_dim": 3,
                "mode": "sigmoid",
                "range": (1, 16),
            },
            "regress_head": {"type": "MLP", "input_dim": dims, "output_dim": 3},
            "segment_head": {
                "type": "MLP",
                "input_dim": config["reduce_dims"],
                "output_dim": config["segment_classes"],
            },
            "reduce_dims": config["reduce_dims"],
            "image_shape": config["image_shape"],
            "patch_size": config["patch_size"],
            "depth_limit": config["depth_limit"],
            "voxelizer": {
                "type": "GaussianVoxelizer",
                "vol_range": config["vol_range"],
                "voxel_size": config["voxel_size"],
            },
        },
        **options,
    )


@pytest.fixture(
    scope="module",
    params=find_cases("model_predict", "gausstr", ".pt"),
    ids=lambda path: path.stem,
)
def predicted(request):
    """Model with the golden weights, and its queries for the golden inputs."""
    golden = load(request.param)
    model = build_model(golden["config"], pca="per_step").eval()
    model.load_state_dict(golden["state_dict"], strict=True)
    with torch.no_grad():
        outputs = model.decode(golden["feats"], golden["initial_reference_points"])
    cameras = {key: golden[key] for key in ("cam2img", "cam2ego", "img_aug_mat")}
    return model, golden, outputs, cameras


@torch.no_grad()
def test_prediction(predicted):
    model, golden, (queries, references), cameras = predicted
    close(queries[-1].flatten(0, 1), golden["hidden_states_last"], atol=5e-5)
    close(references[-1].flatten(0, 1), golden["references_last"])
    head = model.gauss_heads[-1]
    gaussians = head.predict_gaussians(queries[-1], references[-1], golden["depth"], cameras)
    close(gaussians.means, golden["means3d"], atol=1e-4)
    close(gaussians.opacities, golden["opacities"])
    covars = covariances(gaussians.rotmats, gaussians.scales)
    close(covars, golden["covariances"], rtol=1e-3)
    probabilities = prompt_probabilities(gaussians.features, head.text_proto_embeds)
    close(probabilities, golden["prompt_probs"])
    result = head.predict(gaussians)
    assert ((result["density"] - golden["density"]).abs() > 2e-4).float().mean() <= 1e-3
    assert ((result["prompts"] - golden["grid_feats"]).abs() > 5e-4).float().mean() <= 1e-3
    merged = merge_prompts(golden["grid_feats"], head.vocabulary)
    close(merged, golden["merged_probs"])
    decided = (golden["density"].squeeze(-1) - head.vocabulary.density_threshold).abs() > 1e-5
    agree = (result["labels"] == golden["pred"])[decided]
    assert agree.float().mean() >= 0.999
    exact = label_voxels(golden["density"], golden["grid_feats"], head.vocabulary)
    assert torch.equal(exact[decided], golden["pred"][decided])


def test_losses_of_the_whole_model(predicted, request):
    model, inputs, (queries, references), cameras = predicted
    path = request.node.callspec.params["predicted"]
    golden = load(path.with_name(path.name.replace("model_predict", "model_losses")))
    depth, feats = inputs["depth"], inputs["feats"]
    patch = inputs["config"]["patch_size"]
    width, height = golden["width_height"].tolist()
    aug = cameras["img_aug_mat"][0, 0]  # where the corner of the photographs comes to lie
    original = [round(float((height - aug[1, 3]) / aug[1, 1])),
                round(float((width - aug[0, 3]) / aug[0, 0]))]  # fmt: skip
    total, separate = 0.0, []
    for i, head in enumerate(model.gauss_heads):
        request = golden["rasterizer_inputs"][i]
        gaussians = head.predict_gaussians(queries[i], references[i], depth, cameras)
        basis = golden["pca_V"][i].float()
        assert head.rendered_shape(cameras, original) == (height, width)
        intrinsics = augmented_intrinsics(cameras["cam2img"], cameras["img_aug_mat"])
        for b in range(len(feats)):
            expected = {
                key: (value[b] if value.dim() > 2 or key == "opacities" else value)
                for key, value in request.items()
            }
            close(gaussians.means[b], expected["means"].reshape(-1, 3), atol=1e-4)
            close(gaussians.scales[b], expected["scales"].reshape(-1, 3), rtol=1e-3)
            close(gaussians.opacities[b].squeeze(-1), expected["opacities"].reshape(-1))
            colors = gaussians.features[b] @ basis
            close(colors, expected["colors"].reshape(colors.shape), atol=1e-4)
            close(torch.linalg.inv(cameras["cam2ego"][b]), expected["viewmats"], atol=1e-4)
            close(intrinsics[b], expected["Ks"], rtol=1e-5)
        rendered = golden["rendered"].clone().requires_grad_()
        separate.append(rendered)
        flat = rendered.flatten(0, 1)
        targets = torch.einsum("bchw,cr->brhw", feats.flatten(0, 1), basis)
        assert targets.shape[-1] * patch == flat.shape[-1]
        losses = head.losses(
            flat[:, :-1],
            flat[:, -1],
            None,
            depth.flatten(0, 1),
            targets,
            inputs["sem_seg"].flatten(0, 1),
        )
        for name, value in losses.items():
            want = golden["losses"][f"{name}/{i}"]
            assert float(value.detach()) == pytest.approx(want, rel=1e-4), f"{name}/{i}"
        total = total + sum(value for name, value in losses.items() if "loss" in name)
    assert float(total.detach()) == pytest.approx(golden["total"], rel=1e-4)
    total.backward()
    close(separate[-1].grad, golden["grad_rendered_last_head"], atol=1e-6, rtol=1e-3)


def test_pca_captures_the_variance(predicted):
    _, inputs, _, _ = predicted
    flat = inputs["feats"].movedim(2, -1).flatten(0, -2).double()
    rank = inputs["config"]["reduce_dims"]
    centred = flat - flat.mean(0)
    exact = torch.linalg.svdvals(centred)[:rank].square().sum()
    torch.manual_seed(0)
    bases = {"per_step": fit_pca(flat, rank)}
    ema = FeatureBasis(flat.shape[1], rank, "ema")
    bases["ema"] = ema.update(flat.float()).double()
    for name, basis in bases.items():
        identity = torch.eye(rank, dtype=torch.float64)
        torch.testing.assert_close(basis.T @ basis, identity, atol=1e-5, rtol=0)
        assert (centred @ basis).square().sum() >= 0.9 * exact, name
    # The running basis keeps its axes when the data stay alike.
    again = ema.update(flat[torch.randperm(len(flat))].float())
    torch.testing.assert_close(again.double(), bases["ema"], atol=1e-3, rtol=0)


@vectors("losses", "gausstr")
def test_losses(path):
    golden = arrays(path)
    pred, target = golden["pred_depth"], golden["target_depth"]
    silog, l1 = scale_invariant_log(pred, target), masked_l1(pred, target)
    close(silog, golden["silog"])
    close(l1, golden["l1"])
    close(silog + L1_SHARE * l1, golden["silog_l1"])
    cosine = cosine_distance(golden["cos_a"], golden["cos_b"]).mean()
    close(LOSS_WEIGHTS["cosine"] * cosine, golden["loss_cosine"])
    logits = golden["seg_logits"].movedim(-1, 1)
    ce = torch.nn.functional.cross_entropy(logits, golden["seg_labels"], ignore_index=0)
    close(ce, golden["loss_ce"])


def test_chunked_cosine_equals_the_plain_form():
    torch.manual_seed(0)
    rendered, targets = torch.randn(2, 5, 24, 40), torch.randn(2, 5, 3, 5)
    enlarged = torch.nn.functional.interpolate(
        targets, (24, 40), mode="bilinear", align_corners=False
    )
    plain = cosine_distance(rendered, enlarged, dim=1).mean()
    for rows in (1, 7, 64):
        close(upsampled_cosine_loss(rendered, targets, rows), plain)
    empty = torch.zeros_like(rendered)
    assert float(upsampled_cosine_loss(empty, targets)) == pytest.approx(1.0)


@pytest.mark.parametrize("backend", ["reference", "native"])
@vectors("render_rgbd", "gausstr")
def test_rendering(path, backend, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    golden = arrays(path)
    leaves = {key: golden.leaf(key) for key in ("means", "quats", "scales", "opacities", "colors")}
    near, far = golden["near_far"].tolist()
    width, height = golden["width_height"].tolist()
    intrinsics = augmented_intrinsics(golden["cam2img"], golden["img_aug_mat"])
    close(intrinsics, golden["Ks"], rtol=1e-5)
    image, alpha, _ = rasterization(
        *leaves.values(),
        golden["viewmats"],
        intrinsics,
        width,
        height,
        near_plane=near,
        far_plane=far,
        render_mode="RGB+D",
    )
    close(image.movedim(-1, 1), golden["rendered"], atol=2e-4)
    close(alpha[..., 0], golden["alpha"], atol=2e-5)
    (image.movedim(-1, 1) * golden["cotangent"]).sum().backward()
    for key, leaf in leaves.items():
        want = golden[f"grad_{key}"]
        assert relative_l2(leaf.grad, want) < 1e-3, key
        assert (leaf.grad - want).abs().max() <= 1e-3 * want.abs().max(), key


def merge_prompts(features, vocabulary):
    kept = [_kept_prompts(one, vocabulary) if vocabulary.denoise else None for one in features]
    return torch.stack([_merge(*pair, vocabulary) for pair in zip(features, kept)])


@vectors("classify", "gausstr")
def test_classification(path):
    golden = arrays(path)
    sizes = golden["group_sizes"].tolist()
    vocabulary = replace(OCC3D_VOCABULARY, prompts=range(sum(sizes)), groups=sizes)
    close(merge_prompts(golden["grid_feats"], vocabulary), golden["merged"])
    plain = replace(vocabulary, denoise=False)
    close(merge_prompts(golden["grid_feats"], plain), golden["merged_no_denoise"])
    labels = label_voxels(golden["density"], golden["grid_feats"], vocabulary)
    np.testing.assert_array_equal(labels.numpy(), golden["pred"].numpy())
