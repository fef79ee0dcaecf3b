"""VGGT: camera, depth, points and tracks of all frames in one bidirectional pass."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcity.models.losses import check_finite
from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS
from mmcity.structures import Cameras, SequenceDataSample, Trajectory, to_device
from mmcity.structures.geometry import se3_inverse

from .aggregator import Aggregator
from .camera_head import CameraHead
from .dpt_head import DPTHead
from .outputs import split_frames, unpack_inputs
from .pose_encoding import decode_pose, shift_centres, unproject_depth
from .track_head import TrackHead


@MODELS.register_module()
class VGGT(BaseModel):
    """Visual geometry transformer (arXiv 2503.11651).

    The parameters carry the names of the published checkpoint, which loads strictly.

    Args:
        aggregator: Arguments of :class:`Aggregator`. Defaults to the 1B model's.
        camera_head: Arguments of :class:`CameraHead`; None leaves the head out.
        depth_head: Arguments of :class:`DPTHead` for depth; None leaves the head out.
        point_head: Arguments of :class:`DPTHead` for points; None leaves the head out.
        track_head: Arguments of :class:`TrackHead`; None leaves the head out.
        loss: Config of the training objective (registered in MODELS). Defaults to None.
        frozen_parts: Prefixes of parameters that are not trained, such as
            ``'aggregator.patch_embed'``. Defaults to none.
        data_preprocessor: Config. Defaults to :class:`PinnedDataPreprocessor`.
        init_cfg: Where to load weights from (mmengine). Defaults to None.
    """

    causal = False

    def __init__(
        self,
        aggregator: Mapping | None = None,
        camera_head: Mapping | None = (),
        depth_head: Mapping | None = (),
        point_head: Mapping | None = (),
        track_head: Mapping | None = (),
        loss: Mapping | None = None,
        frozen_parts: Sequence[str] = (),
        data_preprocessor: Mapping | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(data_preprocessor or PinnedDataPreprocessor(), init_cfg)
        aggregator = dict(aggregator or {})
        dim = 2 * aggregator.get("embed_dim", 1024)
        patch = aggregator.get("patch_size", 14)
        shared = {"dim_in": dim, "patch_size": patch}
        self.camera_head = self.depth_head = self.point_head = self.track_head = None
        if camera_head is not None:
            self.camera_head = CameraHead(dim_in=dim, **dict(camera_head))
        if point_head is not None:
            args = {"output_dim": 4, "activation": "inv_log", **dict(point_head)}
            self.point_head = DPTHead(**shared, **args)
        if depth_head is not None:
            args = {"output_dim": 2, "activation": "exp", **dict(depth_head)}
            self.depth_head = DPTHead(**shared, **args)
        if track_head is not None:
            self.track_head = TrackHead(**shared, **dict(track_head))
        last = aggregator.get("depth", 24) - 1
        kept = {last}
        for head in (self.depth_head, self.point_head, self.track_head):
            kept.update(() if head is None else head.layers)
        self.aggregator = Aggregator(kept_layers=sorted(kept), **aggregator)
        self.last_layer = last
        self.loss_module = None if loss is None else MODELS.build(dict(loss))
        self.frozen_parts = tuple(frozen_parts)
        self._freeze()

    def _freeze(self) -> None:
        names = [name for name, _ in self.named_parameters()]
        for part in self.frozen_parts:
            if not any(name == part or name.startswith(part + ".") for name in names):
                raise ValueError(f"frozen_parts: expected a prefix of parameters, got {part!r}")
        for name, parameter in self.named_parameters():
            if any(name == part or name.startswith(part + ".") for part in self.frozen_parts):
                parameter.requires_grad_(False)

    @property
    def patch_size(self) -> int:
        """Image sides must be multiples of this."""
        return self.aggregator.patch_size

    def forward(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        data_samples: Sequence | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[SequenceDataSample]:
        """Run the network on whole sequences.

        Args:
            inputs: Images ``(B, S, 3, H, W)`` in [0, 1], or a dict with ``images`` and
                optionally ``query_points`` ``(B, N, 2)`` (pixels x, y of frame 0).
            data_samples: Ground truth of each sequence (loss mode); see the loss.
            mode: ``'tensor'`` for the raw outputs, ``'predict'`` for one data sample per
                sequence, ``'loss'`` for a dict of losses.

        Returns:
            In tensor mode ``pose_enc`` ``(B, S, 9)`` (last iteration), ``pose_enc_iters``
            (list), ``depth`` ``(B, S, H, W, 1)``, ``world_points`` ``(B, S, H, W, 3)``,
            ``depth_conf`` and ``world_points_conf`` ``(B, S, H, W)``; with query points
            ``track`` ``(B, S, N, 2)``, ``track_iters`` (list), ``vis``, ``track_conf``,
            ``vis_logits`` ``(B, S, N)``. Heads that were left out are missing.
        """
        images, query_points = unpack_inputs(inputs)
        if mode == "tensor":
            return self.run(images, query_points)
        if mode == "predict":
            return self.predict(images, query_points, data_samples)
        if mode == "loss":
            return self.loss(images, query_points, data_samples)
        raise ValueError(f"mode: expected 'tensor', 'predict' or 'loss', got {mode!r}")

    def run(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        step_frames: int = 1,
        window: int | None = None,
    ) -> dict[str, Tensor]:
        """Full-sequence pass; see :meth:`forward` for the outputs.

        Args:
            images: ``(B, S, 3, H, W)`` in [0, 1].
            query_points: ``(B, N, 2)``.
            step_frames: Frames per time step (causal model). Defaults to 1.
            window: Steps seen besides the first one (causal model). Defaults to None (all).
        """
        tokens = self.aggregator(images, self.causal, step_frames, window)
        outputs = self.run_dense_heads(tokens, images)
        if self.camera_head is not None:
            camera_tokens = tokens[self.last_layer][:, :, 0]
            poses = self.camera_head(camera_tokens, self.causal, step_frames, window)
            outputs.update(pose_enc=poses[-1], pose_enc_iters=poses)
        if query_points is not None:
            outputs.update(self.run_tracker(query_points, self.track_features(tokens, images)))
        return outputs

    def run_dense_heads(self, tokens: Mapping[int, Tensor], images: Tensor) -> dict[str, Tensor]:
        """Depth and point maps from the kept tokens."""
        special = self.aggregator.num_special
        outputs = {}
        if self.depth_head is not None:
            depth, conf = self.depth_head(tokens, images, special)
            outputs.update(depth=depth, depth_conf=conf)
        if self.point_head is not None:
            points, conf = self.point_head(tokens, images, special)
            outputs.update(world_points=points, world_points_conf=conf)
        return outputs

    def track_features(self, tokens: Mapping[int, Tensor], images: Tensor) -> Tensor:
        """Feature maps of the tracker ``(B, S, C, H / stride, W / stride)``."""
        if self.track_head is None:
            raise ValueError("query_points: expected none without a track head, got some")
        return self.track_head.extract(tokens, images, self.aggregator.num_special)

    def run_tracker(self, query_points: Tensor, maps: Tensor) -> dict[str, Tensor]:
        """Tracks of points of the first map."""
        coords, vis, conf = self.track_head.track(query_points, maps)
        return {
            "track": coords[-1],
            "track_iters": coords,
            "vis": vis.sigmoid(),
            "vis_logits": vis,
            "track_conf": conf.sigmoid(),
        }

    def predict(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        data_samples: Sequence | None = None,
    ) -> list[SequenceDataSample]:
        """One data sample per sequence with the fields of :meth:`fill_sample`."""
        return self.fill_samples(self.run(images, query_points), images, data_samples)

    def fill_samples(
        self, outputs: Mapping[str, Tensor], images: Tensor, data_samples: Sequence | None
    ) -> list[SequenceDataSample]:
        """Write the outputs of a batch into its samples (new ones if there are none)."""
        if data_samples is None:
            data_samples = [SequenceDataSample() for _ in images]
        for index, sample in enumerate(data_samples):
            self.fill_sample(sample, outputs, index, images.shape[-2:])
        return list(data_samples)

    @staticmethod
    def fill_sample(
        sample: SequenceDataSample,
        outputs: Mapping[str, Tensor],
        index: int,
        image_size: Sequence[int],
    ) -> None:
        """Set the predictions of a sample from entry ``index`` of a batch.

        Fields: ``pred_depths`` (S, H, W), ``pred_points`` (S, H, W, 3), ``pred_depth_confs``,
        ``pred_point_confs`` (S, H, W), ``pred_cameras`` (K with pixel centres at
        half-integers: a point of pixel (u, v) projects to (u + 0.5, v + 0.5)),
        ``pred_trajectory`` and with query points ``pred_tracks`` (S, N, 2; as the query points,
        with pixel centres at whole numbers), ``pred_visibilities`` (S, N).
        """
        outputs = {
            name: value[index].detach()
            for name, value in outputs.items()
            if isinstance(value, Tensor)
        }
        if "depth" in outputs:
            sample.pred_depths = outputs["depth"][..., 0]
            sample.set_field(outputs["depth_conf"], "pred_depth_confs")
        if "world_points" in outputs:
            sample.pred_points = outputs["world_points"]
            sample.set_field(outputs["world_points_conf"], "pred_point_confs")
        if "pose_enc" in outputs:
            viewmats, Ks = decode_pose(outputs["pose_enc"], image_size)
            height, width = image_size
            # Containers count pixels from their corners, the network from their centres.
            sample.pred_cameras = Cameras(shift_centres(Ks, 0.5), viewmats, width, height)
            sample.pred_trajectory = Trajectory(se3_inverse(viewmats.double()), validate=False)
        if "track" in outputs:
            sample.set_field(outputs["track"], "pred_tracks")
            sample.set_field(outputs["vis"], "pred_visibilities")

    def loss(
        self, images: Tensor, query_points: Tensor | None, data_samples: Sequence | None
    ) -> dict[str, Tensor]:
        """Losses against the ground truth in ``data_samples``."""
        if self.loss_module is None:
            raise ValueError("loss: expected one in the config of the model to train it, got none")
        predictions = split_frames(self.run(images, query_points))
        losses = self.loss_module(predictions, self.targets(images, query_points, data_samples))
        shown = ", ".join(str(sample.get("sequence")) for sample in data_samples or ())
        check_finite({f"{shown}: {name}": value for name, value in losses.items()})
        return losses

    def targets(
        self, images: Tensor, query_points: Tensor | None, data_samples: Sequence | None
    ) -> list[dict[str, Tensor]]:
        """Ground truth of each frame as batched tensors.

        Samples carry ``gt_depths`` (S, H, W; 0 = none, negative = sky) and ``cameras``, and as
        metainfo optionally ``is_metric`` and ``camera_only``.

        Returns:
            One dict per frame: ``pts3d`` (B, H, W, 3) in the data's world, ``valid_mask``,
            ``sky_mask`` (B, H, W), ``depth`` (B, H, W, 1), ``camera_pose`` (B, 4, 4) camera to
            world, ``Ks`` (B, 3, 3), ``is_metric`` and ``camera_only`` (B,).
        """
        if not data_samples:
            raise ValueError("data_samples: expected the ground truth in mode 'loss', got none")
        device = images.device
        depths = torch.stack([s.gt_depths for s in data_samples]).to(device)  # (B, S, H, W)
        depths = depths.nan_to_num(nan=0, posinf=0, neginf=0)
        viewmats = torch.stack([s.cameras.viewmats for s in data_samples]).to(device)
        Ks = torch.stack([s.cameras.Ks for s in data_samples]).to(device)
        valid = depths > 0
        points = unproject_depth(depths.clamp_min(0), viewmats, shift_centres(Ks, -0.5))
        poses = se3_inverse(viewmats)
        flags = {
            name: to_device(
                torch.tensor([bool(s.get(name, default)) for s in data_samples]), device
            )
            for name, default in (("is_metric", True), ("camera_only", False))
        }
        return [
            {
                "pts3d": points[:, frame],
                "valid_mask": valid[:, frame],
                "sky_mask": depths[:, frame] < 0,
                "camera_pose": poses[:, frame],
                "Ks": shift_centres(Ks[:, frame], -0.5),
                "depth": depths[:, frame, ..., None],
                **flags,
            }
            for frame in range(images.shape[1])
        ]
