"""Losses, the two training stages, and a few steps through the Runner."""

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from mmcity.datasets.sequences import sequence_dataset
from mmcity.datasets.sequences.toytown_video import toytown_video
from mmcity.models.streamvggt import (
    VGGT,
    Aggregator,
    CameraHead,
    DistillationLoss,
    DPTHead,
    GroundTruthLoss,
    PoseRegressionLoss,
    StreamVGGT,
    TeacherThenStudent,
    decode_pose,
)
from mmcity.models.streamvggt.distill_loss import fit_scale_shift, relative_error
from mmcity.models.streamvggt.ground_truth_loss import normalise_scene
from mmcity.models.streamvggt.mean_geometry import MeanGeometry
from mmcity.models.streamvggt.relative_pose_loss import relative_pose_loss
from mmcity.models.streamvggt.stream_vggt import draw_query_points
from mmcity.structures import Cameras, SequenceDataSample
from mmcity.structures.geometry import se3_exp, se3_inverse
from mmcity.utils import register_all_modules
from tests.models.streamvggt.tiny import (
    SIZES,
    distillation_config,
    random_frames,
    tiny_model,
    toytown_config,
    write_toytown_video,
)

LOSS = {"type": "GroundTruthLoss", "camera_weight": 5.0}


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_all_modules()


def ground_truth(frames=3, height=28, width=42, batch=2):
    samples = []
    for entry in range(batch):
        twist = torch.tensor([0.2, 0.0, 0.3, 0.0, 0.1, 0.0]) * (1 + entry)
        poses = torch.stack([se3_exp(i * twist) for i in range(1, frames + 1)])
        K = torch.tensor([[40.0, 0, width / 2], [0, 40, height / 2], [0, 0, 1]])
        sample = SequenceDataSample()
        generator = torch.Generator().manual_seed(entry)
        sample.gt_depths = 2 + torch.rand(frames, height, width, generator=generator)
        sample.gt_depths[:, :3] = 0
        sample.cameras = Cameras(K, se3_inverse(poses), width, height)
        samples.append(sample)
    return samples


def as_predictions(targets):
    """Outputs of a network that knows the truth."""
    shape = targets[0]["valid_mask"].shape
    return [
        {
            "camera_pose": t["camera_pose"],
            "depth": t["depth"].clamp_min(1e-4),
            "depth_conf": torch.ones(shape),
            "pts3d_in_other_view": t["pts3d_in_other_view"],
            "conf": torch.ones(shape),
        }
        for t in targets
    ]


class TestGroundTruth:
    def test_normalised_scene(self):
        model = tiny_model(kind=VGGT)
        frames = model.targets(torch.zeros(2, 3, 3, 28, 42), None, ground_truth())
        scene = normalise_scene(frames)
        viewmats, _ = decode_pose(scene[0]["camera_pose"], (28, 42))
        torch.testing.assert_close(viewmats, torch.eye(4).expand(2, 4, 4), atol=1e-5, rtol=0)
        distances = torch.stack([f["pts3d_in_other_view"].norm(dim=-1) for f in scene], 1)
        valid = torch.stack([f["valid_mask"] for f in scene], 1)
        for entry in range(2):
            mean = distances[entry][valid[entry]].mean()
            assert float(mean) == pytest.approx(1.0, rel=1e-4)
        # Depth and points keep one scale: in the first frame z is the depth.
        first = scene[0]
        z = first["pts3d_in_other_view"][..., 2][first["valid_mask"]]
        torch.testing.assert_close(z, first["depth"][..., 0][first["valid_mask"]])

    def test_the_truth_has_no_loss(self):
        model = tiny_model(kind=VGGT)
        frames = model.targets(torch.zeros(2, 3, 3, 28, 42), None, ground_truth())
        predictions = as_predictions(normalise_scene(frames))
        for value in GroundTruthLoss()(predictions, frames).values():
            assert abs(float(value)) < 1e-5
        predictions[1]["depth"] = predictions[1]["depth"] * 1.1
        losses = GroundTruthLoss(depth_weight=1.0)(predictions, frames)
        # A constant factor has the logarithm as error and no gradient error.
        assert float(losses["loss_depth"]) == pytest.approx(np.log(1.1) / 3, rel=1e-4)

    def test_supervised_loss_of_the_truth(self):
        model = tiny_model(kind=VGGT)
        frames = model.targets(torch.zeros(2, 3, 3, 28, 42), None, ground_truth())
        predictions = as_predictions(normalise_scene(frames))
        for frame in frames:
            frame["is_metric"] = torch.tensor([False, False])
        losses = PoseRegressionLoss()(predictions, frames)
        assert float(losses["pose_error"]) < 1e-4 and abs(float(losses["loss_points"])) < 1e-3
        # In the published convention the model's own pose is wrong.
        assert float(PoseRegressionLoss(upstream=True)(predictions, frames)["pose_error"]) > 0.1


class TestDistillation:
    def model(self, **kwargs):
        loss = {"type": "DistillationLoss", **kwargs}
        student = tiny_model(loss=loss, frozen_parts=["aggregator.patch_embed"], track=True)
        student.set_teacher(tiny_model(kind=VGGT, track=True))
        return student

    def test_state_dict_holds_the_student_alone(self):
        student = self.model()
        assert set(student.state_dict()) == set(tiny_model(track=True).state_dict())
        assert all(p.requires_grad is False for p in student.teacher.parameters())
        student.train()
        assert not student.teacher.training

    def test_gradients_reach_what_is_trained(self):
        student = self.model().train()
        losses = student(random_frames(3, batch=2), ground_truth(), mode="loss")
        assert set(losses) == {"loss_camera", "loss_depth", "loss_points", "loss_track"}
        sum(losses.values()).backward()
        for name, parameter in student.named_parameters():
            if name.startswith("aggregator.patch_embed"):
                assert parameter.grad is None, name
            # The first pose is fed back without gradient, so its token never gets one.
            elif name != "camera_head.empty_pose_tokens":
                assert parameter.grad is not None and parameter.grad.isfinite().all(), name

    def test_checkpointing_changes_no_gradient(self):
        grads = []
        for is_on in (False, True):
            student = self.model().train()
            student.aggregator.gradient_checkpointing = is_on
            torch.manual_seed(0)
            losses = student(random_frames(3, batch=2), ground_truth(), mode="loss")
            sum(losses.values()).backward()
            grads.append([p.grad for p in student.parameters() if p.grad is not None])
        for a, b in zip(*grads):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)

    def test_alignment_kinds(self):
        pred = torch.rand(2, 6, 6, 1, generator=torch.Generator().manual_seed(0)) + 1
        conf, mask = torch.ones(2, 6, 6), torch.ones(2, 6, 6, dtype=torch.bool)
        scales = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
        loss = {k: DistillationLoss(alignment=k).eval() for k in ("batch", "sample", "none")}
        value = {
            k: float(f.dense_loss(pred, scales * pred + 1, conf, mask)) for k, f in loss.items()
        }
        assert value["sample"] < 1e-5 < value["batch"] < value["none"]

    def test_query_points(self):
        valid = torch.zeros(2, 8, 9, dtype=torch.bool)
        valid[0, 2:, 5:] = True
        torch.manual_seed(0)
        points = draw_query_points(valid, 10)
        assert (points[1] == 0).all()  # too few valid pixels
        torch.manual_seed(0)
        rows, columns = valid[0].nonzero(as_tuple=True)
        chosen = torch.randint(len(rows), (10,))
        assert torch.equal(points[0], torch.stack([columns[chosen], rows[chosen]], -1).float())

    def test_alignment_by_a_mask_is_that_of_the_masked_values(self):
        generator = torch.Generator().manual_seed(0)
        pred, target = torch.randn(2, 4, 5, 3, generator=generator).unbind()
        mask = torch.rand(4, 5, generator=generator) > 0.5
        for found, expected in zip(
            fit_scale_shift(pred, target, mask), fit_scale_shift(pred[mask], target[mask])
        ):
            torch.testing.assert_close(found, expected)

    def test_a_view_without_truth_uses_all_pixels(self):
        pred = torch.rand(2, 6, 6, 1, generator=torch.Generator().manual_seed(0)) + 1
        conf, empty = torch.ones(2, 6, 6), torch.zeros(2, 6, 6, dtype=torch.bool)
        found = DistillationLoss(alignment="sample").dense_loss(pred, 2 * pred**2, conf, empty)
        whole = DistillationLoss(alignment="sample").dense_loss(pred, 2 * pred**2, conf, ~empty)
        assert found == whole != 0
        assert GroundTruthLoss().dense_loss(pred, 2 * pred**2, conf, empty) == 0


def test_a_loss_that_is_not_finite_stops_the_run():
    model = tiny_model(kind=VGGT, loss=LOSS)
    images = random_frames(3, batch=2)
    images[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="loss_camera"):
        model(images, ground_truth(), mode="loss")


def test_stages():
    sizes = dict(SIZES)
    model = TeacherThenStudent(
        teacher={"type": "VGGT", "loss": LOSS, **sizes},
        student={"type": "StreamVGGT", "loss": {"type": "DistillationLoss"}, **sizes},
        teacher_iters=2,
    ).train()
    images, truth = random_frames(3, batch=2), ground_truth()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(4):
        assert model.is_distilling == (step >= 2)
        optimizer.zero_grad()
        sum(model(images, truth, mode="loss").values()).backward()
        if step == 2:  # the student began with the teacher's weights
            pairs = zip(model.student.parameters(), model.teacher.parameters())
            assert all(torch.equal(a, b) for a, b in pairs)
        optimizer.step()
    assert any(
        not torch.equal(a, b)
        for a, b in zip(model.student.parameters(), model.teacher.parameters())
    )
    resumed = TeacherThenStudent(
        teacher={"type": "VGGT", "loss": LOSS, **sizes},
        student={"type": "StreamVGGT", "loss": {"type": "DistillationLoss"}, **sizes},
        teacher_iters=2,
    )
    resumed.load_state_dict(model.state_dict())
    assert resumed.is_distilling and isinstance(resumed.current, StreamVGGT)


def test_streamed_predictions_equal_the_full_pass():
    images = random_frames(4)
    full = tiny_model()(images, mode="predict")[0]
    streamed = tiny_model(predict_stream={"policy": "full"})(images, mode="predict")[0]
    torch.testing.assert_close(streamed.pred_depths, full.pred_depths, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        streamed.pred_trajectory.poses, full.pred_trajectory.poses, atol=1e-5, rtol=1e-4
    )
    assert full.pred_cameras.one_size() == (42, 28)


def test_toytown_config_runs(tmp_path):
    write_toytown_video(tmp_path / "video", ["000_drive", "001_walk", "002_orbit"])
    cfg = toytown_config(tmp_path / "video")
    cfg.work_dir = str(tmp_path / "work")
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.model.is_distilling
    metrics = runner.test()
    for name in ("untrained", "constant", "teacher", "student"):
        assert 0 <= metrics[f"{name}/depth/Abs Rel"] < 10
        assert 0 <= metrics[f"{name}/pose/AUC@30"] <= 1
    assert runner.model.averages.clips == 2 * cfg.train_dataloader.batch_size


@pytest.mark.parametrize("ranks", [1, 2])
def test_published_schedule_follows_the_number_of_processes(
    ranks, tmp_path, monkeypatch, random_weights
):
    """One epoch of four clips: four steps of one process, or two of each of two."""
    monkeypatch.setattr(sequence_dataset, "get_dist_info", lambda: (0, ranks))
    write_toytown_video(tmp_path / "video", ["000_drive", "001_walk", "002_orbit"])
    cfg = distillation_config(tmp_path / "video")
    cfg.update(work_dir=str(tmp_path / "work"), experiment_name=f"{tmp_path.name}_{ranks}")
    runner = Runner.from_cfg(cfg)
    runner.train()
    steps = 4 // ranks
    assert runner.iter == runner.max_iters == steps
    warmup, cosine = runner.param_schedulers
    # The start shares its last step with the curve, as schedules of mmengine do.
    assert (warmup.begin, warmup.end, cosine.begin, cosine.end) == (
        0,
        steps // 2,
        steps // 2,
        steps,
    )
    assert runner.message_hub.get_scalar("val/depth/Abs Rel").current() > 0


def test_registers_reach_the_patch_transformer():
    sizes = {"img_size": 28, "embed_dim": 16, "depth": 1, "num_heads": 2, "dino_depth": 1}
    assert Aggregator(**sizes, num_register_tokens=2).patch_embed.register_tokens.shape == (
        1,
        2,
        16,
    )


def test_averages_are_those_of_the_clips():
    """Two clips, one twice as deep: the mean of the logarithms, in units of each scene."""
    depth = torch.tensor([2.0, 4.0]).view(2, 1, 1, 1).expand(-1, -1, 2, 3).clone()
    depth[1, 0, 0, 0] = 0  # nothing measured
    cameras = [Cameras(torch.eye(3)[None], torch.eye(4)[None], 3, 2) for _ in range(2)]
    samples = [SequenceDataSample(gt_depths=d, cameras=c) for d, c in zip(depth, cameras)]
    model = tiny_model()
    targets = VGGT.targets(model, torch.zeros(2, 1, 3, 2, 3), None, samples)
    mean = MeanGeometry(1, (2, 3))
    mean.update(targets)
    normalised = normalise_scene(targets)[0]["depth"][..., 0]
    expected = (normalised[0] * normalised[1]).sqrt()
    expected[0, 0] = normalised[0, 0, 0]
    out = mean.run(torch.zeros(1, 2, 3, 2, 3))
    torch.testing.assert_close(out["depth"][0, 0, ..., 0], expected)
    torch.testing.assert_close(out["depth"][0, 1], out["depth"][0, 0])  # beyond: the last
    torch.testing.assert_close(
        out["pose_enc"][0, 0], normalise_scene(targets)[0]["camera_pose"].mean(0)
    )
    with pytest.raises(ValueError, match="images: expected"):
        mean.run(torch.zeros(1, 2, 3, 4, 3))


def test_relative_error_is_that_of_the_ratio():
    ratio = torch.tensor([0.25, 0.5, 1.0, 2.0])
    torch.testing.assert_close(relative_error(ratio.log()), (ratio - 1).abs())
    far = relative_error(torch.tensor([1.0, 3.0]))
    assert far[1] - far[0] == pytest.approx(2 * np.e, rel=1e-5)  # a straight line from e on


class TestRelativePose:
    def encoding(self, shift, angle=0.0):
        half = angle / 2
        return torch.tensor([[*shift, 0, float(np.sin(half)), 0, float(np.cos(half)), 1.0, 1.0]])

    def test_truth_has_no_loss(self):
        frames = [self.encoding((0.1 * i, 0, -0.2 * i), 0.1 * i) for i in range(3)]
        assert relative_pose_loss(frames, frames) < 1e-3

    def test_shift_counts_by_its_own_length(self):
        """A motion of 0.4 found as 0.3: the error is a quarter of 0.4, with 0.02 added."""
        still = self.encoding((0, 0, 0))
        loss = relative_pose_loss(
            [still, self.encoding((0.3, 0, 0))], [still, self.encoding((0.4, 0, 0))]
        )
        assert loss == pytest.approx(0.1 / 0.42, rel=1e-2)

    def test_turn(self):
        """The Frobenius norm between rotations is 2 sqrt(2) sin(angle / 2)."""
        still = self.encoding((0, 0, 0))
        loss = relative_pose_loss([still, self.encoding((0, 0, 0), 0.3)], [still, still])
        assert loss == pytest.approx(8**0.5 * np.sin(0.15), rel=2e-2)


def test_head_for_training_from_scratch_passes_tokens_on():
    """Frames with other tokens give other maps from the start; torch's own weights hide them."""
    spread = []
    for from_scratch in (False, True):
        torch.manual_seed(0)
        head = DPTHead(
            32, 2, "exp", features=16, out_channels=(16,) * 4, layers=(0, 1, 2, 3), patch_size=4,
            from_scratch=from_scratch,
        )  # fmt: skip
        tokens = {layer: torch.randn(1, 6, 12, 32) for layer in range(4)}
        depth, _ = head(tokens, torch.zeros(1, 6, 3, 12, 16), 0)
        spread.append(float(depth.log().std(dim=1).mean()))
    assert spread[1] > 5 * spread[0] and 0.05 < spread[1] < 1


def test_detail_of_the_picture_reaches_its_own_pixels():
    """A changed pixel changes depth nearby only; the tokens stay as they are."""
    torch.manual_seed(0)
    head = DPTHead(
        32, 2, "exp", features=16, out_channels=(16,) * 4, layers=(0, 1, 2, 3), patch_size=8,
        from_scratch=True, detail_width=4,
    )  # fmt: skip
    tokens = {layer: torch.randn(1, 1, 48, 32) for layer in range(4)}
    images = torch.rand(1, 1, 3, 48, 64, requires_grad=True)
    depth, _ = head(tokens, images, 0)
    depth[0, 0, 10, 20].sum().backward()
    rows, columns = images.grad[0, 0].abs().amax(0).nonzero().T
    assert {(10, 20)} <= set(zip(rows.tolist(), columns.tolist()))
    # Half-resolution levels, their refinement and the last convolutions reach 33 pixels.
    assert (rows - 10).abs().max() <= 33 and (columns - 20).abs().max() <= 33
    with pytest.raises(ValueError, match="output_dim"):
        DPTHead(32, None, detail_width=4)


def test_views_of_things_at_arms_length_are_left_out(tmp_path):
    write_toytown_video(tmp_path, ["000_drive", "001_walk"])
    path = tmp_path / "000_drive" / "depth" / "000001.npy"
    depth = np.load(path)
    depth[: len(depth) // 2] = 0.6  # a truck
    np.save(path, depth)
    names = [s.name for s in toytown_video(tmp_path, min_distance=0.7)]
    assert names == ["001_walk"]
    assert len(toytown_video(tmp_path, min_distance=0.5)) == 2


def test_standing_cameras_are_left_out(tmp_path):
    write_toytown_video(tmp_path, ["000_drive", "001_walk"])
    still = np.tile(np.eye(4), (6, 1, 1)).reshape(6, 16)
    frames = len(np.loadtxt(tmp_path / "000_drive" / "poses.txt"))
    np.savetxt(tmp_path / "000_drive" / "poses.txt", still[:frames])
    names = [s.name for s in toytown_video(tmp_path, min_travel=0.05)]
    assert names == ["001_walk"]
    assert len(toytown_video(tmp_path)) == 2


def test_untrained_camera_head_gives_its_start_pose():
    start = (0, 0, 0, 0, 0, 0, 1, 0.9, 1.2)
    head = CameraHead(32, 1, 2, num_iterations=3, start_pose=start)
    torch.nn.init.zeros_(head.pose_branch.fc2.weight)
    torch.testing.assert_close(head(torch.rand(1, 2, 32))[-1][0, 0], torch.tensor(start).float())


def test_teacher_weights_load_strictly(tmp_path):
    teacher = tiny_model(kind=VGGT)
    torch.nn.init.ones_(teacher.camera_head.embed_pose.bias)
    torch.save({"state_dict": teacher.state_dict()}, tmp_path / "vggt.pth")
    sizes = {"type": "VGGT", **SIZES}
    student = tiny_model(teacher=sizes, teacher_checkpoint=str(tmp_path / "vggt.pth"))
    student.init_weights()
    assert (student.teacher.camera_head.embed_pose.bias == 1).all()
    state = teacher.state_dict()
    state.pop("camera_head.embed_pose.bias")
    torch.save({"state_dict": state}, tmp_path / "short.pth")
    student = tiny_model(teacher=sizes, teacher_checkpoint=str(tmp_path / "short.pth"))
    with pytest.raises(RuntimeError, match="embed_pose.bias"):
        student.init_weights()
