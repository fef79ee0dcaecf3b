"""Metrics of the streaming suites: exact on the truth, as computed on known errors."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from mmcity.datasets.sequences import EvalSequenceDataset
from mmcity.evaluation.functional.camera_poses import trajectory_errors
from mmcity.evaluation.functional.depth import DEPTH_METRICS, align_depth, evaluate_depth
from mmcity.evaluation.functional.point_clouds import estimate_normals, icp
from mmcity.evaluation.metrics import (
    ReconstructionMetric,
    RelativePoseMetric,
    SequenceDepthMetric,
    TrajectoryMetric,
)
from mmcity.structures import Sim3, Trajectory
from mmcity.structures.geometry import axis_angle_to_rotmat, se3_exp
from tests.conftest import real_data_dir
from tests.datasets.sequence_writers import Scene, write_bonn, write_sintel

REAL = {"kitti_stream": {"depth_scale": 256.0}, "redkitchen_stream": {"use_depth_camera": True}}


def measure(metric, samples):
    metric.process({}, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))


def real_sample(name, frames=6):
    data = EvalSequenceDataset(
        "posed_video",
        real_data_dir(name),
        resize="principal_point",
        image_size=(112, 224) if name == "kitti_stream" else (168, 224),
        max_frames=frames,
        **REAL[name],
    )
    return data[0]["data_samples"]


class TestDepth:
    @pytest.mark.parametrize("alignment", ["median", "scale", "scale&shift", "lstsq"])
    def test_scaled_truth_has_no_error(self, alignment):
        gt = 1 + 4 * torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0))
        result = evaluate_depth(0.3 * gt, gt, alignment)
        assert result["Abs Rel"] < 1e-6 and result["δ < 1.25"] == 1
        assert result["scale"] == pytest.approx(1 / 0.3, rel=1e-6)

    def test_least_absolute_fit_is_the_linear_program(self):
        rng = np.random.default_rng(0)
        pred = rng.uniform(1, 5, 41)
        gt = 2 * pred + 0.5 + rng.laplace(0, 0.3, 41)
        scale, shift = align_depth(torch.from_numpy(pred), torch.from_numpy(gt), "scale&shift")
        rows = np.stack([pred, np.ones(41)], axis=1)
        found = linprog(
            np.concatenate([np.zeros(2), np.ones(41)]),
            A_ub=np.block([[rows, -np.eye(41)], [-rows, -np.eye(41)]]),
            b_ub=np.concatenate([gt, -gt]),
            bounds=[(None, None)] * 2 + [(0, None)] * 41,
        )
        cost = np.abs(scale * pred + shift - gt).sum()
        assert cost == pytest.approx(found.fun, rel=1e-6)
        assert scale == pytest.approx(found.x[0], rel=1e-3)

    def test_known_error(self):
        gt = torch.full((1, 4, 4), 2.0)
        result = evaluate_depth(torch.full((1, 4, 4), 3.0), gt, "metric")
        assert result["Abs Rel"] == 0.5 and result["Sq Rel"] == 0.5 and result["RMSE"] == 1
        assert result["Log RMSE"] == pytest.approx(np.log(1.5))
        assert (result["δ < 1.25"], result["δ < 1.25^2"]) == (0, 1)

    def test_nothing_valid_gives_zeros(self):
        result = evaluate_depth(torch.ones(2, 2), torch.zeros(2, 2))
        assert all(result[name] == 0 for name in DEPTH_METRICS)

    def test_video_files(self, tmp_path):
        write_sintel(tmp_path, Scene())
        sample = EvalSequenceDataset("sintel", tmp_path, image_size=70)[0]["data_samples"]
        sample.pred_depths = 0.5 * sample.gt_depths
        out = tmp_path / "eval_results"
        metric = SequenceDepthMetric("video", max_depth=70, out_dir=out, save_maps=True)
        measured = measure(metric, [sample])
        assert measured["depth/Abs Rel"] < 1e-6
        folder = out / "video_depth" / "sintel_streamvggt"
        text = (folder / "result_scale.json").read_text()
        assert "\\u03b4 < 1." in text and list(json.loads(text)) == list(DEPTH_METRICS)
        saved = np.load(folder / "alley_2" / "frame_0003.npy")
        np.testing.assert_array_equal(saved, sample.pred_depths[3])
        assert (folder / "alley_2" / "frame_0003.png").is_file()

    def test_mono_aligns_each_frame(self, tmp_path):
        write_bonn(tmp_path, Scene())
        sample = EvalSequenceDataset("bonn", tmp_path, image_size=70)[0]["data_samples"]
        scales = torch.linspace(1, 2, 6).view(-1, 1, 1)
        sample.pred_depths = scales * sample.gt_depths
        metric = SequenceDepthMetric("mono", out_dir=tmp_path, save_maps=True)
        assert measure(metric, [sample])["depth/Abs Rel"] < 1e-6
        folder = tmp_path / "monodepth" / "bonn_streamvggt"
        assert (folder / "metric.json").is_file()
        assert len(list((folder / "crowd2").glob("*depth.npy"))) == 6
        whole = SequenceDepthMetric("video", alignment="median")
        assert measure(whole, [sample])["depth/Abs Rel"] > 0.1

    @pytest.mark.real_data
    @pytest.mark.parametrize("name", REAL)
    def test_real_data(self, name):
        sample = real_sample(name)
        sample.pred_depths = 3.7 * sample.gt_depths
        assert measure(SequenceDepthMetric("video"), [sample])["depth/Abs Rel"] < 1e-5
        sample.pred_depths = 1.1 * sample.gt_depths
        measured = measure(SequenceDepthMetric("video", alignment="metric"), [sample])
        assert measured["depth/Abs Rel"] == pytest.approx(0.1, rel=1e-4)
        assert measured["depth/δ < 1.25"] == 1


class TestPoses:
    def path(self, count=12):
        twist = torch.tensor([0.3, 0.05, 0.4, 0.02, 0.1, 0.0], dtype=torch.float64)
        poses = torch.stack([se3_exp(i**1.2 * twist) for i in range(count)])
        return Trajectory(poses)

    def test_similar_paths_have_no_error(self):
        gt = self.path()
        sim = Sim3(
            torch.tensor(2.5).double(),
            axis_angle_to_rotmat(torch.tensor([0.1, 0.9, 0.3]).double()),
            torch.ones(3).double(),
        )
        errors = trajectory_errors(gt.transform(sim), gt)
        assert max(errors.values()) < 1e-5

    def test_known_trajectory_errors(self):
        gt = self.path(40)
        noise = 0.05 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
        poses = gt.poses.clone()
        poses[:, :3, 3] += noise - noise.mean(0)
        errors = trajectory_errors(Trajectory(poses), gt)
        # The similarity takes up only a little of so many independent residuals.
        assert errors["ate"] == pytest.approx(0.05 * 3**0.5, rel=0.15)
        poses = gt.poses.clone()
        turn = axis_angle_to_rotmat(torch.tensor([0.0, 0.0, np.deg2rad(2.0)]).double())
        poses[1::2, :3, :3] = poses[1::2, :3, :3] @ turn
        errors = trajectory_errors(Trajectory(poses), gt)
        assert errors["rpe_rot"] == pytest.approx(2.0, rel=1e-6)
        assert errors["ate"] < 1e-6

    @pytest.mark.real_data
    @pytest.mark.parametrize("name", REAL)
    def test_real_data(self, name):
        sample = real_sample(name)
        sample.pred_trajectory = sample.trajectory
        assert measure(TrajectoryMetric(), [sample])["trajectory/ate"] < 1e-5
        auc = measure(RelativePoseMetric(), [sample])
        assert auc["pose/AUC@30"] == 1 and auc["pose/RRA@5"] == 1
        # Every camera turned by 10 degrees about its own axis: relative motions keep their
        # angle only up to what the axis differs, so the first pair is measured.
        turn = axis_angle_to_rotmat(torch.tensor([0.0, 0.0, np.deg2rad(10.0)]).double())
        poses = sample.trajectory.poses.clone()
        poses[0, :3, :3] = poses[0, :3, :3] @ turn
        sample.pred_trajectory = Trajectory(poses)
        auc = measure(RelativePoseMetric(auc_degrees=(30,), accuracy_degrees=9), [sample])
        pairs = len(poses) * (len(poses) - 1) / 2
        assert auc["pose/RRA@9"] == pytest.approx(1 - (len(poses) - 1) / pairs)


class TestReconstruction:
    def test_normals_of_a_plane(self):
        rng = np.random.default_rng(0)
        points = np.concatenate([rng.uniform(-1, 1, (300, 2)), np.zeros((300, 1))], axis=1)
        turn = np.asarray(axis_angle_to_rotmat(np.array([0.4, -0.3, 0.2])))
        normals = estimate_normals(points @ turn.T)
        np.testing.assert_allclose(np.abs(normals @ turn[:, 2]), 1, atol=1e-9)

    def test_icp_undoes_a_small_motion(self):
        rng = np.random.default_rng(0)
        points = rng.uniform(-1, 1, (2000, 3))
        motion = se3_exp(torch.tensor([0.01, -0.02, 0.01, 0.01, 0.0, 0.02]).double()).numpy()
        moved = points @ motion[:3, :3].T + motion[:3, 3]
        np.testing.assert_allclose(icp(points, moved), motion, atol=1e-3)

    @pytest.mark.parametrize("use_proj", [False, True])
    def test_truth_and_logs(self, tmp_path, use_proj):
        write_sintel(tmp_path, Scene())
        data = EvalSequenceDataset(
            "sintel", tmp_path, resize="principal_point", image_size=(42, 56), max_frames=3
        )
        sample = data[0]["data_samples"]
        depths = sample.gt_depths
        first = sample.trajectory.poses[0]
        grid = sample.cameras.pixel_grid().reshape(1, -1, 2).expand(len(depths), -1, -1)
        world = sample.cameras.unproject(grid, depths.flatten(1)).view(*depths.shape, 3)
        sample.pred_points = 0.4 * (world - first[:3, 3].float()) @ first[:3, :3].float()
        sample.pred_depths, sample.pred_cameras = depths, sample.cameras
        metric = ReconstructionMetric(use_proj=use_proj, crop=40, out_dir=tmp_path / "out")
        measured = measure(metric, [sample])
        assert measured["reconstruction/acc"] < 2e-3 and measured["reconstruction/comp"] < 2e-3
        assert measured["reconstruction/nc"] > 0.98
        folder = tmp_path / "out" / "sintel"
        line = (folder / "logs_0.txt").read_text()
        assert line.startswith("Idx: alley_2, Acc: ") and " - Acc_med: " in line
        assert "mean: acc: 0.00" in (folder / "logs_all.txt").read_text()
