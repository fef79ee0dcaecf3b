"""Joining chunks, on a stand-in network whose geometry is known."""

import pytest
import torch
import torch.nn.functional as F

from mmcity.models.streamvggt import decode_pose, encode_pose, unproject_depth
from mmcity.models.streamvggt.chunking import sim3_power, transform_outputs
from mmcity.models.streamvggt.session import StreamSession
from mmcity.structures import Sim3
from mmcity.structures.geometry import (
    axis_angle_to_rotmat,
    se3_exp,
    se3_from_rt,
    se3_inverse,
    transform_points,
)

SIZE = (8, 10)


def random_sim(seed: int) -> Sim3:
    generator = torch.Generator().manual_seed(seed)
    turn = axis_angle_to_rotmat(torch.randn(3, generator=generator))
    return Sim3(torch.tensor(1.7), turn, torch.randn(3, generator=generator))


def test_points_depth_and_poses_are_carried_together():
    generator = torch.Generator().manual_seed(0)
    depth = 1 + torch.rand(2, 3, *SIZE, generator=generator)
    pose_enc = torch.randn(2, 3, 9, generator=generator)
    pose_enc[..., 7:] = 0.9
    viewmats, Ks = decode_pose(pose_enc, SIZE)
    outputs = {
        "depth": depth[..., None],
        "pose_enc": pose_enc,
        "world_points": unproject_depth(depth, viewmats, Ks),
    }
    out = transform_outputs(outputs, [random_sim(1), random_sim(2)])
    viewmats, Ks = decode_pose(out["pose_enc"], SIZE)
    again = unproject_depth(out["depth"][..., 0], viewmats, Ks)
    torch.testing.assert_close(again, out["world_points"], atol=1e-4, rtol=1e-4)
    expected = random_sim(2)(outputs["world_points"][1])
    torch.testing.assert_close(out["world_points"][1], expected)


def test_power_of_a_similarity():
    sim = Sim3(torch.tensor(2.0), axis_angle_to_rotmat(torch.tensor([0.0, 0.6, 0.0])))
    third = sim3_power(sim, 1 / 3)
    torch.testing.assert_close((third @ third @ third).matrix, sim.matrix, atol=1e-5, rtol=1e-5)


class Stage:
    """A network that knows the true scene, but only in the frame of a chunk's first image.

    Images hold their frame number. The camera goes round a circle of ``period`` frames.
    Chunks differ in scale; with ``drift`` the depth of a chunk grows from frame to frame.
    """

    def __init__(self, drift: float = 0.0, period: int = 20) -> None:
        self.drift, self.period, self.chunk = drift, period, -1
        turn = torch.tensor([0.0, 0.0, 0.0, 0.0, 2 * torch.pi / period, 0.0])
        step = se3_from_rt(se3_exp(turn)[:3, :3], torch.tensor([0.5, 0.1 / period, 0.0]))
        poses = [torch.eye(4)]
        for _ in range(2 * period):
            poses.append(poses[-1] @ step)
        self.cam_to_world = torch.stack(poses)
        self.depth = 2 + torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
        self.Ks = decode_pose(torch.full((9,), 0.8), SIZE)[1]

    def new_cache(self, *args):
        class Counter:
            num_steps = 0

            def reset(self):
                self.num_steps = 0

        return Counter()

    def render(self, frame: int, origin: int, scale: float, stretch: float) -> dict:
        pose = se3_inverse(self.cam_to_world[origin]) @ self.cam_to_world[frame]
        pose = pose.clone()
        pose[:3, 3] *= scale * stretch
        viewmat = se3_inverse(pose)
        depth = self.depth * scale * stretch
        return {
            "depth": depth[None, None, ..., None],
            "depth_conf": torch.full((1, 1, *SIZE), 2.0),
            "world_points": unproject_depth(depth, viewmat, self.Ks)[None, None],
            "world_points_conf": torch.full((1, 1, *SIZE), 2.0),
            "pose_enc": encode_pose(viewmat, self.Ks, SIZE)[None, None],
        }

    def descriptor(self, frame: int) -> torch.Tensor:
        return F.one_hot(torch.tensor([frame % self.period]), self.period).float()

    def stream_step(self, images, cache):
        frame = int(images.mean())
        if cache.num_steps == 0:
            self.chunk, self.origin = self.chunk + 1, frame
        cache.num_steps += 1
        stretch = (1 + self.drift) ** (frame - self.origin)
        out = self.render(frame, self.origin, 1 + 0.3 * self.chunk, stretch)
        return {**out, "descriptor": self.descriptor(frame)}

    def run(self, images, step_frames):
        first, second = (int(image.mean()) for image in images[0])
        pair = [self.render(frame, first, 1.0, 1.0) for frame in (first, second)]
        return {name: torch.cat([part[name] for part in pair], dim=1) for name in pair[0]}


def run(stage: Stage, frames: int, **policy) -> tuple[StreamSession, list[dict]]:
    session = StreamSession(stage, {"type": "ChunkPolicy", "num_frames": 6, **policy})
    outputs = [session.step(torch.full((1, 3, *SIZE), float(frame))) for frame in range(frames)]
    return session, outputs


@pytest.mark.parametrize("overlap", [1, 3])
def test_chunks_of_other_scale_join_in_one_world(overlap):
    stage = Stage()
    session, outputs = run(stage, 16, overlap=overlap)
    assert len(session.stitcher.starts) > 2
    for frame, out in enumerate(outputs):
        viewmats, _ = decode_pose(out["pose_enc"][0], SIZE)
        wanted = stage.cam_to_world[frame]
        torch.testing.assert_close(se3_inverse(viewmats[0]), wanted, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(out["depth"][0, 0, ..., 0], stage.depth, atol=1e-3, rtol=1e-3)


def test_loop_closure_corrects_the_drift():
    stage = Stage(drift=0.01)
    frames = stage.period + 3
    session, outputs = run(stage, frames, overlap=2, loop_closure=True)
    _, open_outputs = run(Stage(drift=0.01), frames, overlap=2)
    starts = [start for start, _ in session.stitcher.corrections()]
    chunk = max(i for i, start in enumerate(starts) if start <= stage.period)
    # Where frame `period` lies in the world, before and after all corrections.
    handed_out = outputs[stage.period]["world_points"][0]
    correction = session.stitcher.corrections()[chunk][1][0]
    truth = transform_points(
        stage.cam_to_world[stage.period],
        unproject_depth(stage.depth, torch.eye(4), stage.Ks).flatten(0, 1),
    ).view_as(handed_out[0])
    before = (open_outputs[stage.period]["world_points"][0, 0] - truth).norm(dim=-1).mean()
    after = (correction(handed_out)[0] - truth).norm(dim=-1).mean()
    assert before > 0.2
    assert after < 0.25 * before


def test_loops_close_between_few_places_that_look_alike():
    stage = Stage(drift=0.01)
    options = dict(overlap=2, loop_closure=True, loop_similarity=1.01, max_keyframes=2)
    session, _ = run(stage, stage.period + 3, **options)
    for _, (correction,) in session.stitcher.corrections():  # none looks more than alike
        torch.testing.assert_close(correction.matrix, torch.eye(4).double(), atol=1e-5, rtol=0)
    assert len(session.stitcher.state_dict()["keyframes"]) == 2


def test_overlap_must_be_shorter_than_the_chunk():
    with pytest.raises(ValueError, match="overlap"):
        StreamSession(Stage(), "chunk(4, 4)")
