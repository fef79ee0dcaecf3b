"""Joining chunks of a stream by similarity transforms, with optional loop closure."""

from collections import deque
from collections.abc import Iterable, Mapping, MutableSequence, Sequence

import torch
from torch import Tensor

from mmcity.structures import Sim3, to_device
from mmcity.structures.geometry import (
    quat_slerp,
    quat_to_rotmat,
    rotmat_to_quat,
    se3_from_rt,
    se3_inverse,
)

from .cache import ChunkPolicy
from .pose_encoding import decode_pose, encode_pose, unproject_depth
from .vggt import VGGT

#: Points per frame that take part in an alignment.
MAX_POINTS = 4096


def sim3_power(sim: Sim3, exponent: float) -> Sim3:
    """A part of a similarity: identity at 0, all of it at 1."""
    quat = rotmat_to_quat(sim.rotation)
    start = torch.zeros_like(quat)
    start[0] = 1
    turn = quat_to_rotmat(quat_slerp(start, quat, exponent))
    return Sim3(sim.scale**exponent, turn, exponent * sim.translation)


def transform_outputs(outputs: Mapping[str, Tensor], sims: Sequence[Sim3]) -> dict[str, Tensor]:
    """Carry world points, depths and poses through one similarity per batch entry."""
    out = dict(outputs)
    out.pop("pose_enc_iters", None)
    first = next(value for value in out.values() if isinstance(value, Tensor))
    scales, turns, shifts = to_device(
        [
            torch.stack([getattr(sim, part) for sim in sims]).to("cpu", torch.float32)
            for part in ("scale", "rotation", "translation")
        ],
        first.device,
    )
    scales, turns, shifts = scales.view(-1, 1, 1, 1, 1), turns[:, None], shifts[:, None]
    if "world_points" in out:
        carried = (scales * out["world_points"]) @ turns.mT[:, None]
        out["world_points"] = carried + shifts[:, None, None]
    if "depth" in out:
        out["depth"] = out["depth"] * scales
    if "pose_enc" in out:
        size = (2, 2)  # fields of view pass through unchanged, whatever the size
        viewmats, Ks = decode_pose(out["pose_enc"], size)
        poses = se3_inverse(viewmats)  # (B, S, 4, 4)
        centres = (scales[..., 0] * poses[..., None, :3, 3]) @ turns.mT
        carried = se3_from_rt(turns @ poses[..., :3, :3], centres[..., 0, :] + shifts)
        encoded = encode_pose(se3_inverse(carried), Ks, size)
        out["pose_enc"] = torch.cat([encoded[..., :7], out["pose_enc"][..., 7:]], dim=-1)
    return out


def sample_points(outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A regular subset of the predicted points, ``(B, N, 3)``, and their confidence."""
    if "world_points" in outputs:
        points, conf = outputs["world_points"], outputs["world_points_conf"]
    elif "depth" in outputs and "pose_enc" in outputs:
        depth = outputs["depth"][..., 0]
        viewmats, Ks = decode_pose(outputs["pose_enc"], depth.shape[-2:])
        points, conf = unproject_depth(depth, viewmats, Ks), outputs["depth_conf"]
    else:
        raise ValueError("chunks: expected a point head, or depth and camera, got neither")
    frames = points.shape[1]
    points, conf = points.flatten(1, 3), conf.flatten(1)
    stride = max(1, points.shape[1] // (frames * MAX_POINTS))
    return points[:, ::stride].float(), conf[:, ::stride].float()


def align_point_maps(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> list[Sim3]:
    """Similarities from source to target points, weighted by both confidences.

    Args:
        source: Points ``(B, N, 3)`` and confidences ``(B, N)``.
        target: The same points in the other frame.

    Returns:
        One per batch entry.
    """
    weights = (source[1] * target[1]).sqrt()
    sims = (Sim3.from_points(a, b, w) for a, b, w in zip(source[0], target[0], weights))
    # Chains of transforms are kept exact and in one place.
    return [sim.to("cpu", torch.float64) for sim in sims]


class SimHistory(MutableSequence):
    """Similarities of many chunks, ``[chunk][batch]``.

    They are kept as plain numbers: small tensors that live on between the large ones of the
    network would keep the allocator from giving memory back, and a long stream would grow.
    """

    def __init__(self, chunks: Iterable[Sequence[Sim3]] = ()) -> None:
        self._rows: list[tuple] = []
        self.extend(chunks)

    @staticmethod
    def _pack(sims: Sequence[Sim3]) -> tuple:
        return tuple(tuple(sim.matrix.double().flatten().tolist()) for sim in sims)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> list[Sim3]:
        matrices = torch.tensor(self._rows[index], dtype=torch.float64).unflatten(-1, (4, 4))
        return [Sim3.from_matrix(matrix) for matrix in matrices]

    def __setitem__(self, index: int, sims: Sequence[Sim3]) -> None:
        self._rows[index] = self._pack(sims)

    def __delitem__(self, index: int) -> None:
        del self._rows[index]

    def insert(self, index: int, sims: Sequence[Sim3]) -> None:
        """Put the similarities of a chunk before another one."""
        self._rows.insert(index, self._pack(sims))


class ChunkStitcher:
    """Places the chunks of a stream in the world of the first frame.

    Args:
        model: The network (loop closure runs it on pairs of steps).
        policy: Lengths and thresholds.
    """

    def __init__(self, model: VGGT, policy: ChunkPolicy) -> None:
        self.model = model
        self.policy = policy
        self._overlap: deque[tuple[Tensor, Tensor]] = deque(maxlen=policy.overlap)
        self.reset()

    def reset(self) -> None:
        """Forget all chunks."""
        #: Chunk to world, ``[chunk][batch]``; loop closure changes earlier entries.
        self.transforms = SimHistory()
        #: The same as used for the results that were handed out.
        self.emitted = SimHistory()
        #: First step of each chunk.
        self.starts: list[int] = []
        self._keyframes: list[dict] = []
        self._closed = False
        self._overlap.clear()

    def place(self, outputs: Mapping[str, Tensor], images: Tensor, step: int) -> dict[str, Tensor]:
        """Outputs of a step in the world frame."""
        if not self.transforms:
            self._open([Sim3() for _ in images], step)
        if self.starts[-1] < 0:
            self.starts[-1] = step
        local = sample_points(outputs)
        if self.policy.loop_closure:
            self._close_loop(local, images, outputs["descriptor"])
            if step == self.starts[-1]:
                self._add_keyframe(local, images, outputs["descriptor"])
        self._overlap.append(local)
        # A loop closed within a chunk takes effect from the next one on, so that one
        # transform holds for all results of a chunk.
        return transform_outputs(outputs, self.emitted[-1])

    def begin_chunk(self, overlap: Sequence[Mapping[str, Tensor]]) -> None:
        """Align a new chunk by its outputs on the last steps of the old one."""
        parts = [sample_points(outputs) for outputs in overlap]
        source = tuple(torch.cat(p, dim=1) for p in zip(*parts))
        points, conf = (torch.cat(p, dim=1) for p in zip(*self._overlap))
        points = torch.stack([sim(p) for sim, p in zip(self.transforms[-1], points)])
        self._open(align_point_maps(source, (points, conf)), -1)

    def _open(self, sims: list[Sim3], start: int) -> None:
        self.transforms.append(sims)
        self.emitted.append(sims)
        self.starts.append(start)
        self._closed = False

    def corrections(self) -> list[tuple[int, list[Sim3]]]:
        """First step of each chunk and what to apply to its results that were handed out."""
        return [
            (start, [new @ old.inverse() for new, old in zip(now, before)])
            for start, now, before in zip(self.starts, self.transforms, self.emitted)
        ]

    def _add_keyframe(
        self, local: tuple[Tensor, Tensor], images: Tensor, descriptor: Tensor
    ) -> None:
        if len(self._keyframes) >= self.policy.max_keyframes:
            self._keyframes = self._keyframes[::2]  # thin out evenly, memory stays bounded
        self._keyframes.append(
            {
                "chunk": len(self.transforms) - 1,
                "images": images,
                "points": local[0],
                "conf": local[1],
                "descriptor": descriptor,
            }
        )

    def _close_loop(self, local: tuple[Tensor, Tensor], images: Tensor, descriptor: Tensor) -> None:
        """If this place was seen two or more chunks ago, spread the error over the chunks."""
        chunk = len(self.transforms) - 1
        old = [frame for frame in self._keyframes if frame["chunk"] <= chunk - 2]
        if self._closed or not old:
            return
        similarity = torch.stack(
            [(frame["descriptor"] * descriptor).sum(-1).min() for frame in old]
        )
        best = int(similarity.argmax())
        if similarity[best] < self.policy.loop_similarity:
            return
        key, views = old[best], images.shape[1]
        joint = self.model.run(torch.cat([key["images"], images], dim=1), step_frames=views)
        then, now = (
            sample_points({k: v[:, part] for k, v in joint.items() if isinstance(v, Tensor)})
            for part in (slice(0, views), slice(views, None))
        )
        to_key = align_point_maps(then, (key["points"], key["conf"]))
        to_current = align_point_maps(now, local)
        first = key["chunk"]
        for entry, (of_key, of_current) in enumerate(zip(to_key, to_current)):
            measured = of_key @ of_current.inverse()  # current chunk to the keyframe's chunk
            begin, end = self.transforms[first][entry], self.transforms[chunk][entry]
            error = (begin.inverse() @ end).inverse() @ measured
            for index in range(first + 1, chunk + 1):
                share = (index - first) / (chunk - first)
                sims = list(self.transforms[index])
                sims[entry] = sims[entry] @ sim3_power(error, share)
                self.transforms[index] = sims
        self._closed = True

    def state_dict(self) -> dict:
        """Everything needed to go on later."""

        def matrices(chunks: SimHistory) -> list[list[Tensor]]:
            return [[sim.matrix for sim in sims] for sims in chunks]

        return {
            "transforms": matrices(self.transforms),
            "emitted": matrices(self.emitted),
            "starts": list(self.starts),
            "keyframes": [dict(frame) for frame in self._keyframes],
            "closed": self._closed,
            "overlap": list(self._overlap),
        }

    def load_state_dict(self, state: Mapping, device: torch.device | str | None = None) -> None:
        """Restore :meth:`state_dict`."""

        def sims(chunks: list[list[Tensor]]) -> SimHistory:
            return SimHistory([Sim3.from_matrix(matrix) for matrix in one] for one in chunks)

        self.reset()
        self.transforms, self.emitted = sims(state["transforms"]), sims(state["emitted"])
        self.starts, self._closed = list(state["starts"]), state["closed"]
        self._keyframes = [
            {k: v.to(device) if isinstance(v, Tensor) else v for k, v in frame.items()}
            for frame in state["keyframes"]
        ]
        self._overlap.extend(tuple(t.to(device) for t in pair) for pair in state["overlap"])
