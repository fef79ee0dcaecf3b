"""GaussTR on small random scenes: training, determinism, vocabularies, real key frame."""

import json
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcity.apis import OccupancyPredictor, load_gaussian_set, save_gaussian_set
from mmcity.datasets import NuScenesOccDataset
from mmcity.datasets.io.info_pickle import InfoFileError, load_info_pickle, save_info_pickle
from mmcity.datasets.transforms import LoadFeatMaps
from mmcity.datasets.transforms.posed_images import read_image
from mmcity.engine.launch import load_config
from mmcity.models.gausstr import MLP, GaussianVoxelizer, Vocabulary
from mmcity.models.gausstr.gaussian_set import GaussianSet
from mmcity.models.gausstr.pca import FeatureBasis
from mmcity.registry import MODELS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.cli import UserError
from tests.conftest import REPO, real_data_dir
from tests.devices import DEVICE

SHAPE = (32, 64)
pytestmark = pytest.mark.usefixtures("random_weights")


def model_config(**options):
    def mlp(out, **more):
        return {"type": "MLP", "input_dim": 16, "output_dim": out, **more}

    return {
        "type": "GaussTR",
        "num_queries": 6,
        "embed_dims": 16,
        "neck": {"type": "ViTDetFPN", "in_channels": 12, "out_channels": 16},
        "decoder": {
            "type": "GaussTRDecoder",
            "num_layers": 2,
            "layer_cfg": {
                "embed_dims": 16,
                "self_attn_heads": 2,
                "cross_attn_heads": 2,
                "ffn_channels": 32,
            },
            "cross_view_attn": options.pop("cross_view_attn", False),
        },
        "gauss_head": {
            "type": "GaussTRHead",
            "opacity_head": mlp(1, mode="sigmoid"),
            "feature_head": mlp(12),
            "scale_head": mlp(3, mode="sigmoid", range=(1, 16)),
            "regress_head": mlp(3),
            "reduce_dims": 4,
            "image_shape": SHAPE,
            "patch_size": 8,
            "voxelizer": {
                "type": "GaussianVoxelizer",
                "vol_range": [-8, -8, -1, 8, 8, 3],
                "voxel_size": 0.8,
            },
            **options.pop("head", {}),
        },
        **options,
    }


def inputs(batch=1, views=2):
    generator = torch.Generator().manual_seed(0)
    forward = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    backward = torch.diag(torch.tensor([-1.0, -1, 1, 1])) @ forward
    focal = torch.tensor([[40.0, 0, 32, 0], [0, 40, 16, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return {
        "feats": torch.randn(batch, views, 12, 4, 8, generator=generator),
        "depth": torch.rand(batch, views, *SHAPE, generator=generator) * 6 + 2,
        "cam2img": focal.expand(batch, views, 4, 4).clone(),
        "cam2ego": torch.stack([forward, backward]).expand(batch, views, 4, 4).clone(),
        "img_aug_mat": torch.eye(4).expand(batch, views, 4, 4).clone(),
    }


def samples(batch=1):
    return [OccupancyDataSample(metainfo={"ori_shape": SHAPE}) for _ in range(batch)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pca": "per_step", "reference_init": "grid"},
        {"reference_init": "sobol", "cross_view_attn": True},
        {"head": {"sky": "opacity", "depth_mode": "expected"}},
        {"head": {"sampled_features": True, "volume_loss": {"stride": 2}}},
    ],
)
def test_losses_train_every_parameter(options):
    torch.manual_seed(0)
    init_default_scope("mmcity")
    model = MODELS.build(model_config(**options)).train()
    losses = model(inputs(2), samples(2), mode="loss")
    assert {name.split("/")[1] for name in losses} == {"0", "1"}
    sum(value for name, value in losses.items() if "loss" in name).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_prediction_is_deterministic_and_reference_points_may_be_random():
    torch.manual_seed(0)
    model = MODELS.build(model_config()).eval()
    first, second = (model(inputs(), samples(), mode="predict")[0] for _ in range(2))
    assert torch.equal(first.pred_occupancy, second.pred_occupancy)
    assert first.pred_occupancy.shape == (20, 20, 5)
    model.test_reference_init = "random"
    a, b = (model(inputs(), samples(), mode="tensor").means for _ in range(2))
    assert not torch.equal(a, b)


def test_a_fixed_basis_is_set_or_loaded_before_it_is_asked_for():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    saved, fresh = FeatureBasis(4, 2, "fixed"), FeatureBasis(4, 2, "fixed")
    saved.set_basis(torch.eye(4)[:, :2])
    with pytest.raises(RuntimeError, match="basis: expected for pca mode 'fixed', got none"):
        fresh.update(features)
    fresh.load_state_dict(saved.state_dict())
    assert torch.equal(fresh.update(features), torch.eye(4)[:, :2])


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = MODELS.build(model_config(reference_init="seeded")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(25):
        losses = model(inputs(), samples(), mode="loss")
        total = sum(value for name, value in losses.items() if "loss" in name)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert history[-1] < 0.88 * history[0]


def test_missing_inputs_are_named():
    model = MODELS.build(model_config())
    batch = inputs()
    del batch["depth"]
    with pytest.raises(KeyError, match="depth"):
        model(batch, samples())
    with pytest.raises(ValueError, match="ori_shape"):
        model(inputs(), [OccupancyDataSample()], mode="loss")


def test_matrices_may_come_as_metainfo():
    torch.manual_seed(0)
    model = MODELS.build(model_config()).eval()
    batch = inputs()
    expected = model(batch, samples(), mode="tensor").means
    sample = OccupancyDataSample(
        metainfo={key: value[0].numpy() for key, value in batch.items() if key != "feats"}
    )
    got = model({"feats": batch["feats"]}, [sample], mode="tensor").means
    torch.testing.assert_close(got, expected)


def test_new_vocabulary_and_grid_without_the_network(tmp_path):
    torch.manual_seed(0)
    cfg = Config({"model": model_config()})
    predictor = OccupancyPredictor(cfg, device=DEVICE)
    batch = {
        "inputs": {key: list(value) for key, value in inputs().items()},
        "data_samples": samples(),
    }
    gaussians = predictor.predict_gaussians(batch)
    gaussians.opacities.fill_(1.0)
    gaussians.scales.mul_(0.2)
    save_gaussian_set(gaussians, tmp_path / "set.npz")
    again = load_gaussian_set(tmp_path / "set.npz")
    words = Vocabulary(prompts=("thing",), groups=(1,), labels=(3,))
    predictor.set_vocabulary(torch.ones(12, 1), words)
    coarse = predictor.label(again)
    fine = predictor.label(again, vol_range=[-8, -8, -1, 8, 8, 3], voxel_size=0.4)
    assert coarse.shape == (1, 20, 20, 5) and fine.shape == (1, 40, 40, 10)
    assert set(coarse.unique().tolist()) == {3, 17}
    occupied = (fine == 3)[0].view(20, 2, 20, 2, 5, 2).any(5).any(3).any(1)
    both = (occupied & (coarse == 3)[0]).sum() / (occupied | (coarse == 3)[0]).sum()
    assert both > 0.5
    with pytest.raises(ValueError, match="groups: expected a sum of .*, got 2"):
        Vocabulary(prompts=("a",), groups=(2,), labels=(1,))


def test_labels_follow_the_occupancy_that_the_config_names():
    """n opaque Gaussians in the middle of a voxel: density n, probability 1 - exp(-n)."""
    cfg = model_config(head={"occupancy": "probability", "vocabulary": {"density_threshold": 0.9}})
    predictor = OccupancyPredictor(Config({"model": cfg}), device=DEVICE)
    head = predictor.model.gauss_heads[-1]
    centres = torch.tensor([[-7.6, -7.6, -0.6], [7.6, 7.6, 2.6]])
    means = centres.repeat_interleave(torch.tensor([1, 3]), dim=0)[None]  # 0.63 and 0.95
    gaussians = GaussianSet(
        means=means,
        scales=torch.full_like(means, 0.05),
        rotmats=torch.eye(3).expand(1, 4, 3, 3),
        opacities=torch.ones(1, 4, 1),
        features=torch.randn(1, 4, 12),
    )
    labels = predictor.label(gaussians)
    assert torch.equal(labels, head.predict(gaussians)["labels"])
    assert (labels[0] != 17).nonzero().tolist() == [[19, 19, 4]]
    head.occupancy = "density"
    labels = predictor.label(gaussians)
    assert (labels[0] != 17).nonzero().tolist() == [[0, 0, 0], [19, 19, 4]]


def test_voxelizer_filter():
    voxelizer = GaussianVoxelizer([0, 0, 0, 4, 4, 4], 1.0, True, 0.5, 0.1)
    means = torch.tensor([[[2.0, 2, 2], [2, 2, 2], [9, 2, 2], [2, 2, 2]]])
    covars = torch.eye(3).expand(1, 4, 3, 3).clone() * 0.25
    covars[0, 3] *= 1e-3  # thin
    opacities = torch.tensor([[[0.9], [0.4], [0.9], [0.9]]])  # the second is faint
    density, _ = voxelizer(means, opacities, covars)
    alone, _ = voxelizer(means[:, :1], opacities[:, :1], covars[:, :1])
    torch.testing.assert_close(density, alone)


@pytest.mark.parametrize(
    "name, trainable",
    [("gausstr_featup", 13_743_203), ("gausstr_talk2dino", 15_947_605)],
)
def test_published_configs(name, trainable):
    init_default_scope("mmcity")
    cfg = load_config(REPO / "configs" / "gausstr" / f"{name}.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == trainable


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_info_files_run_no_code(tmp_path):
    good = {"metainfo": {}, "data_list": [{"a": np.arange(3), "b": np.float32(1.5)}]}
    save_info_pickle(good, tmp_path / "good.pkl")
    assert load_info_pickle(tmp_path / "good.pkl")["data_list"][0]["a"].tolist() == [0, 1, 2]
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"data_list": [Evil()]}))
    with pytest.raises(InfoFileError, match=r"evil\.pkl: .* refused .*print"):
        load_info_pickle(tmp_path / "evil.pkl")
    (tmp_path / "cut.pkl").write_bytes((tmp_path / "good.pkl").read_bytes()[:-9])
    with pytest.raises(InfoFileError, match=r"cut\.pkl"):
        load_info_pickle(tmp_path / "cut.pkl")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(InfoFileError, match="data_list"):
        load_info_pickle(tmp_path / "other.pkl")


def test_maps_must_exist_and_be_whole(tmp_path):
    load = LoadFeatMaps(str(tmp_path), "depth")
    results = {"filename": ["x/cam__1.jpg"]}
    with pytest.raises(FileNotFoundError, match=r"cam__1\.npy"):
        load(dict(results))
    (tmp_path / "cam__1.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(ValueError, match=r"cam__1\.npy: expected a readable map"):
        load(dict(results))
    np.save(tmp_path / "cam__1.npy", np.full((2, 3), 50, dtype=np.uint8))
    (tmp_path / "meta.json").write_text(json.dumps({"scale": 0.5}))
    assert load(dict(results))["depth"].tolist() == [[[25.0] * 3] * 2]


@pytest.mark.real_data
def test_real_key_frame():
    root = real_data_dir("nuscenes_sample")
    dataset = NuScenesOccDataset(
        "nuscenes_infos_val.pkl",
        str(root),
        pipeline=[
            {"type": "BEVLoadMultiViewImageFromFiles"},
            {"type": "LoadOccFromFile"},
            {"type": "ImageAug3D", "final_dim": (252, 448), "resize_lim": 0.28},
            {"type": "PackMultiViewInputs", "keys": ["cam2img", "cam2ego", "img_aug_mat"]},
        ],
    )
    item = dataset[0]
    assert item["inputs"]["img"].shape == (6, 3, 252, 448)
    target = item["data_samples"].gt_occupancy
    assert int((target != 17).sum()) == 5873
    # Gaussians at the lidar points voxelise to the cells those points occupy; small ones, on a
    # finer grid, since the centre of a cell may be far from the points in it.
    info = dataset.get_data_info(0)
    lidar = info["lidar_points"]
    points = np.fromfile(
        root / "samples" / "LIDAR_TOP" / lidar["lidar_path"], dtype=np.float32
    ).reshape(-1, lidar["num_pts_feats"])[:, :3]
    pose = np.asarray(lidar["lidar2ego"])
    ego = torch.from_numpy(points @ pose[:3, :3].T + pose[:3, 3]).float()
    voxelizer = GaussianVoxelizer([-40, -40, -1, 40, 40, 5.4], 0.1)
    covars = (torch.eye(3) * 0.025**2).expand(len(ego), 3, 3)
    density, _ = voxelizer(ego[None], torch.ones(1, len(ego), 1), covars[None])
    occupied = F.max_pool3d(density[..., 0], 4)[0] > 0.04
    want = target != 17
    for seen in (torch.ones_like(want), item["data_samples"].mask_camera.bool()):
        iou = (occupied & want & seen).sum() / ((occupied | want) & seen).sum()
        assert iou > 0.9


def test_views_beyond_the_source_views_are_only_rendered_into():
    torch.manual_seed(0)
    init_default_scope("mmcity")
    model = MODELS.build(model_config(source_views=1, reference_init="seeded")).eval()
    two = inputs(views=2)
    one = {key: value[:, :1] for key, value in two.items()}
    torch.testing.assert_close(
        model(two, samples(), mode="tensor").means, model(one, samples(), mode="tensor").means
    )
    model.train()
    # The second view looks away from all Gaussians: nothing is rendered into it.
    both, alone = (model(batch, samples(), mode="loss")["mae_depth/1"] for batch in (two, one))
    # (dropout makes the first view differ a little)
    torch.testing.assert_close(both, (alone + two["depth"][0, 1].mean()) / 2, rtol=0.03, atol=0)


def test_sampled_features_are_those_at_the_pixels_of_the_gaussians():
    torch.manual_seed(0)
    init_default_scope("mmcity")
    model = MODELS.build(model_config(head={"sampled_features": True})).eval()
    batch = inputs()
    # Every cell of a view has one feature, so that it does not matter where one looks.
    batch["feats"] = torch.randn(1, 2, 12, 1, 1).expand(1, 2, 12, 4, 8).contiguous()
    features = model(batch, samples(), mode="tensor").features[0].view(2, 6, 12)
    torch.testing.assert_close(features, batch["feats"][0, :, None, :, 0, 0].expand(2, 6, 12))


def test_adjacent_cameras_are_carried_into_the_frame_of_this_one():
    from mmcity.datasets.transforms import AlignAdjacentCameras

    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [100, 98, 102]  # two metres behind, two metres ahead
    cam2ego = np.tile(np.eye(4, dtype=np.float32), (6, 1, 1))
    cam2ego[1::2, 1, 3] = 0.5
    results = AlignAdjacentCameras()({"cam2ego": cam2ego, "ego2global": poses.tolist()})
    assert results["cam2ego"][:, 0, 3].tolist() == [0, 0, -2, -2, 2, 2]
    assert results["cam2ego"][:, 1, 3].tolist() == [0, 0.5] * 3
    with pytest.raises(ValueError, match="load_adj_frame"):
        AlignAdjacentCameras()({"cam2ego": cam2ego, "ego2global": poses[0]})


def test_constant_predictor_is_scored_beside(tmp_path):
    from mmcity.evaluation.metrics import OccMetric

    grid = np.full((4, 4, 2), 17, dtype=np.uint8)
    grid[0], grid[1] = 11, 4
    infos = []
    for number in range(3):
        labels = grid.copy()
        if number == 2:
            labels[1] = 11  # a car in two of three frames
        folder = tmp_path / "gts" / "scene-1" / str(number)
        folder.mkdir(parents=True)
        seen = np.ones_like(labels)
        np.savez(folder / "labels.npz", semantics=labels, mask_lidar=seen, mask_camera=seen)
        infos.append({"token": str(number), "scene_idx": "scene-1", "images": {}})
    save_info_pickle({"metainfo": {}, "data_list": infos}, tmp_path / "train.pkl")
    metric = OccMetric(
        ranges=(), constant_from={"data_root": str(tmp_path), "ann_file": "train.pkl"}
    )
    sample = OccupancyDataSample()
    sample.gt_occupancy = torch.from_numpy(grid.astype(np.int64))
    sample.pred_occupancy = torch.full((4, 4, 2), 17)
    sample.set_data({"mask_camera": torch.ones(4, 4, 2, dtype=torch.bool)})
    metric.process({}, [sample.to_dict()])
    scores = metric.evaluate(1)
    assert (scores["iou"], scores["constant_iou"]) == (0.0, pytest.approx(100.0))
    assert scores["constant_miou"] == pytest.approx(100.0)


def test_a_class_that_is_not_there_costs_its_share_of_the_mean_over_17_alone():
    from mmcity.evaluation.metrics import OccMetric

    target = torch.full((4, 4, 2), 17)
    target[0], target[1] = 11, 4
    pred = target.clone()
    pred[2, 0, 0] = 3  # a bus of one voxel
    metric = OccMetric(ranges=())
    sample = {"mask_camera": torch.ones_like(target)}
    metric.process({}, [{"gt_occupancy": target, "pred_occupancy": pred, **sample}])
    scores = metric.evaluate(1)
    assert scores["miou_present"] == pytest.approx(100.0)
    assert scores["miou"] == pytest.approx(200.0 / 3)
    assert scores["iou"] == pytest.approx(100.0 * 16 / 17)


def test_a_regressor_starts_where_it_is_told():
    head = MLP(6, output_dim=3, mode="sigmoid", range=(0.0, 8.0), initial_output=(0.6, 0.15, 1.6))
    expected = torch.tensor([0.6, 0.15, 1.6]).expand(5, 3)
    torch.testing.assert_close(head(torch.randn(5, 6)), expected)
    torch.testing.assert_close(
        MLP(6, initial_output=0.5)(torch.randn(2, 6)), torch.full((2, 6), 0.5)
    )
    with pytest.raises(ValueError, match="between 0.0 and 1.0"):
        MLP(6, mode="sigmoid", initial_output=1.0)


def test_depth_is_made_on_the_way_where_a_frame_lacks_it(tmp_path):
    root = real_data_dir("nuscenes_sample")
    pipeline = [
        {"type": "BEVLoadMultiViewImageFromFiles"},
        {"type": "ImageAug3D", "final_dim": (252, 448), "resize_lim": 0.28},
        {"type": "LoadFeatMaps", "data_root": str(tmp_path), "key": "depth", "apply_aug": True},
        {"type": "PackMultiViewInputs", "keys": ["depth"], "with_target": False},
    ]
    dataset = {"type": "NuScenesOccDataset", "ann_file": "nuscenes_infos_val.pkl"}
    dataset |= {"data_root": str(root), "pipeline": pipeline}
    cfg = Config({"model": model_config(), "test_dataloader": {"dataset": dataset}})
    with pytest.raises(FileNotFoundError):
        OccupancyPredictor(cfg, device=DEVICE).load(0)
    predictor = OccupancyPredictor(cfg, device=DEVICE, depth_model="lidar")
    depth = torch.as_tensor(predictor.load(0)["inputs"]["depth"][0])
    assert depth.shape == (6, 252, 448)
    # The pictures of the lidar's returns that come with the key frame.
    path = sorted((root / "lidar_depth").glob("*CAM_FRONT__*.png"))[0]
    sparse = read_image(path, None).astype(np.float32) / 256
    rows, cols = np.nonzero(sparse)
    error = np.abs(depth[0].numpy()[rows * 252 // 900, cols * 448 // 1600] - sparse[rows, cols])
    assert np.median(error / sparse[rows, cols]) < 0.02
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")}
    assert len(written) == 6
    predictor.load(0)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")} == written
    # Maps of other options are refused, not taken for those that were asked for.
    other = OccupancyPredictor(
        cfg, device=DEVICE, depth_model="lidar", depth_options={"sky": 100.0}
    )
    with pytest.raises(UserError, match=r'expected outputs of options {"sky": 100.0} \(not {}\)'):
        other.load(0)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")} == written
