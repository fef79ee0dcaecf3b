"""Pose, depth and points of a live stream."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmcity.apis.inferencer import Inferencer
from mmcity.datasets.frame_sources import Frame, SourceError, open_source
from mmcity.datasets.transforms.network_images import load_eval_image, load_network_image
from mmcity.models.streamvggt import StreamSession, decode_pose, unproject_depth
from mmcity.models.streamvggt.outputs import FRAME_KEYS
from mmcity.registry import INFERENCERS, MODELS
from mmcity.structures import SequenceDataSample, to_device, to_host
from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures
from mmcity.visualization import colorize_depth

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class FrameResult:
    """Pose, depth and points of one frame, as numpy arrays.

    The world is the camera frame of the first image (OpenCV axes); its scale is the
    network's, not metres.

    Attributes:
        index: Number of the frame in the stream.
        name: Name of the frame in its source.
        timestamp: Seconds.
        image: What the network saw, ``(H, W, 3)`` uint8.
        depth: z-depth ``(H, W)``.
        depth_conf: Its confidence, above 1, ``(H, W)``.
        points: World points ``(H, W, 3)``.
        points_conf: Their confidence, above 1, ``(H, W)``.
        cam_to_world: ``(4, 4)``.
        K: ``(3, 3)`` with pixel centres at half-integers, as everywhere outside the networks:
            ``points[v, u]`` projects to ``(u + 0.5, v + 0.5)``.
        track: Tracked points in this frame ``(N, 2)``, or None; in pixels as the query points
            are given, with centres at whole numbers.
        visibility: Of these points ``(N,)`` in [0, 1], or None.
        camera: Number of the camera, for rigs; frames of one time step share ``index``.
    """

    index: int
    name: str
    timestamp: float
    image: np.ndarray
    depth: np.ndarray
    depth_conf: np.ndarray
    points: np.ndarray
    points_conf: np.ndarray
    cam_to_world: np.ndarray
    K: np.ndarray
    track: np.ndarray | None = None
    visibility: np.ndarray | None = None
    camera: int = 0


@INFERENCERS.register_module()
class StreamingReconstructor(Inferencer):
    """Runs a :class:`StreamVGGT` over a stream; a generator that keeps nothing it yielded.

    Args:
        config: See :class:`~mmcity.apis.Inferencer`; also an already built model. Of a config
            that trains teacher and student, the student is taken.
        checkpoint: Weights: of this toolbox or the published ``model.pt`` /
            ``checkpoints.pth``. Defaults to None (what the config's model has).
        device: Defaults to ``'cuda'`` where there is one, else ``'cpu'``.
        dtype: ``'fp32'``, ``'bf16'`` or ``'fp16'`` of the aggregator (by autocast; heads
            stay in float32). Defaults to ``'fp32'``.
        policy: What the cache keeps: ``full``, ``window(N)``, ``knn(N)``, ``chunk(N, OVERLAP)``,
            ``diversity(TOKENS)``, ``query(TOKENS)`` or ``attention(TOKENS)``.
            Defaults to the config's ``stream.policy``, else everything.
        cache_dtype: Storage of the cache. Defaults to the config's, else as computed.
        camera_cache_mode: Of the camera head. Defaults to the config's, else
            ``'per_iteration'``.
        image_size: Longest side the network sees. Defaults to the config's, else 518.
        resize: ``'crop'``, ``'pad'`` or ``'eval'``; see
            :mod:`mmcity.datasets.transforms.network_images`. Defaults to ``'crop'``.
        use_proj: Take points from depth and camera (more accurate) instead of the point
            head. Defaults to True.
        callbacks: Functions called with every result before it is yielded, such as a
            viewer's ``add_frame``. More can be added to ``callbacks`` at any time.
            Defaults to none.
        show_progress: See :class:`~mmcity.apis.Inferencer`. Defaults to True.
    """

    def __init__(
        self,
        config: str | os.PathLike | Mapping | nn.Module,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        dtype: str = "fp32",
        policy: Any = None,
        cache_dtype: str | None = None,
        camera_cache_mode: str | None = None,
        image_size: int | None = None,
        resize: str = "crop",
        use_proj: bool = True,
        callbacks: Sequence[Callable[[FrameResult], None]] = (),
        show_progress: bool = True,
    ) -> None:
        check_choice("dtype", dtype, DTYPES, UserError)
        check_choice("resize", resize, ("crop", "pad", "eval"), UserError)
        super().__init__(config, checkpoint, device, show_progress)
        if not hasattr(self.model, "stream_step"):
            raise UserError(
                f"config: expected a model of StreamVGGT, got {type(self.model).__name__}"
            )
        options = self.cfg.get("stream", {})
        self.dtype = DTYPES[dtype]
        self.session_args = {
            "policy": policy if policy is not None else options.get("policy"),
            "cache_dtype": cache_dtype or options.get("cache_dtype"),
            "camera_cache_mode": camera_cache_mode
            or options.get("camera_cache_mode", "per_iteration"),
        }
        self.image_size = image_size or options.get("image_size", 518)
        self.resize = resize
        self.use_proj = use_proj
        self.callbacks = list(callbacks)
        self.session: StreamSession | None = None

    def build_model(self) -> nn.Module:
        """The network that streams, without what is needed for training only."""
        model = dict(self.cfg.model)
        model = dict(model.get("student", model))
        for name in ("teacher", "teacher_checkpoint"):
            model.pop(name, None)
        return MODELS.build(model)

    def choose_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those of the student, where a checkpoint has a teacher and a student."""
        prefix = "student."
        student = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        return student or weights

    def preprocess(self, image: np.ndarray) -> Tensor:
        """Network input ``(3, H, W)`` in [0, 1] of an ``(H0, W0, 3)`` uint8 RGB image."""
        if self.resize == "eval":
            return load_eval_image(image, self.image_size, self.model.patch_size)
        return load_network_image(image, self.resize, self.image_size, self.model.patch_size)

    def __call__(
        self,
        source: str | os.PathLike | int | Iterable,
        stride: int = 1,
        max_frames: int | None = None,
        query_points: Tensor | np.ndarray | None = None,
        track_window: int = 8,
    ) -> Iterator[FrameResult]:
        """Results of a stream, frame by frame.

        Args:
            source: See :func:`open_source`.
            stride: Take every n-th frame. Defaults to 1.
            max_frames: Stop after so many. Defaults to None.
            query_points: Points ``(N, 2)`` in the network's first image to track, in pixels
                with centres at whole numbers. Defaults to None.
            track_window: Frames the tracker sees at once. Defaults to 8.

        Yields:
            One result per frame.
        """
        steps = ([frame] for frame in open_source(source, stride, max_frames))
        return self._start(steps, query_points, track_window, max_frames)

    def run_rig(
        self, sources: Sequence, stride: int = 1, max_frames: int | None = None
    ) -> Iterator[FrameResult]:
        """Results of several cameras that take pictures at the same moments.

        The pictures of a moment are one time step: they see each other, and the cache grows
        by one step. The world is the frame of the first camera's first picture.

        Args:
            sources: One per camera; see :func:`open_source`. Pictures of one moment must
                have one size for the network.
            stride: Take every n-th moment. Defaults to 1.
            max_frames: Stop after so many moments. Defaults to None.

        Yields:
            One result per camera and moment; ``camera`` counts the sources.

        Raises:
            SourceError: If one source ends before the others.
        """
        streams = [open_source(source, stride, max_frames) for source in sources]
        return self._start(_in_step(streams), None, 8, max_frames)

    def _start(
        self, steps: Iterable, query_points, track_window: int, total: int | None
    ) -> Iterator[FrameResult]:
        points = None
        if query_points is not None:
            points = torch.as_tensor(query_points, dtype=torch.float32, device=self.device)[None]
        self.session = self.model.stream(
            **self.session_args, query_points=points, track_window=track_window
        )
        return self._run(self.track(steps, "streaming", total))

    def _run(self, steps: Iterable[list[Frame]]) -> Iterator[FrameResult]:
        first, index, failures = None, 0, ItemFailures("frames")
        for frames in steps:
            images = []
            with failures.item(frames[0].name):
                for frame in frames:
                    images.append(self.preprocess(frame.image))
                    size, stored = tuple(images[-1].shape[-2:]), frame.image.shape
                    first = first or (size, stored, frame.name)
                    if size != first[0]:
                        images.clear()
                        raise SourceError(
                            f"frame {frame.name}: expected one size for the network, with the "
                            f"proportions of the first, {first[2]} ({first[1][1]}x{first[1][0]}), "
                            f"got {stored[1]}x{stored[0]}: pad all with resize='pad' (--resize pad)"
                        )
            if len(images) < len(frames):
                continue
            outputs = self.forward(torch.stack(images))
            for camera, (image, frame) in enumerate(zip(images, frames)):
                result = self.postprocess(outputs, image, frame, index, camera)
                for callback in self.callbacks:
                    callback(result)
                yield result
            index += 1
        failures.check()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """One step of the current session on preprocessed images ``(V, 3, H, W)``.

        Returns:
            Outputs as of :meth:`StreamVGGT.run` with a batch of 1, on the CPU, for which this
            waits once; with ``use_proj`` the points are those of depth and camera.
        """
        with torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        ):
            outputs = self.session.step(to_device(images[None], self.device))
        found = {name: outputs[name].float() for name in FRAME_KEYS if name in outputs}
        if self.use_proj or "world_points" not in found:
            depth = found["depth"][..., 0]
            viewmats, Ks = decode_pose(found["pose_enc"], depth.shape[-2:])
            found["world_points"] = unproject_depth(depth, viewmats, Ks)
            found["world_points_conf"] = found["depth_conf"]
        return to_host(found)

    def postprocess(
        self,
        outputs: Mapping[str, Tensor],
        image: Tensor,
        frame: Frame,
        index: int,
        camera: int = 0,
    ) -> FrameResult:
        """Numpy results of one camera of a step."""
        sample = SequenceDataSample()
        self.model.fill_sample(sample, outputs, 0, image.shape[-2:])

        def array(value: Tensor | None) -> np.ndarray | None:
            return None if value is None else value[camera].numpy()

        return FrameResult(
            index=index,
            name=frame.name,
            timestamp=frame.timestamp,
            image=(image.permute(1, 2, 0) * 255).round().byte().numpy(),
            depth=array(sample.pred_depths),
            depth_conf=array(sample.pred_depth_confs),
            points=array(sample.pred_points),
            points_conf=array(sample.pred_point_confs),
            cam_to_world=array(sample.pred_trajectory.poses),
            K=array(sample.pred_cameras.Ks),
            track=array(sample.get("pred_tracks")),
            visibility=array(sample.get("pred_visibilities")),
            camera=camera,
        )

    def visualize(self, result: FrameResult) -> list[np.ndarray]:
        """The network's view beside its depth."""
        return [np.concatenate([result.image, colorize_depth(result.depth)], axis=1)]

    @property
    def cache_nbytes(self) -> int:
        """Bytes in the cache of the current stream."""
        return 0 if self.session is None else self.session.cache.nbytes


def _in_step(streams: Sequence[Iterator[Frame]]) -> Iterator[list[Frame]]:
    """Frames of all streams, moment by moment."""
    moment = 0
    while True:
        frames = [next(stream, None) for stream in streams]
        missing = [number for number, frame in enumerate(frames) if frame is None]
        if len(missing) == len(streams):
            return
        if missing:
            raise SourceError(
                f"cameras {missing} end after {moment} frames, the others go on; expected as many "
                "pictures from every camera"
            )
        yield frames
        moment += 1
