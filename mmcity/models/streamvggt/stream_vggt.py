"""StreamVGGT: the causal form of VGGT, run frame by frame with a cache."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmcity.models.layers.frozen import check_loaded, freeze
from mmcity.registry import MODELS
from mmcity.structures import SequenceDataSample, to_device

from .cache import CachePolicy, StreamCache
from .outputs import FRAME_KEYS, split_frames
from .session import StreamSession
from .vggt import VGGT


def draw_query_points(valid: Tensor, count: int) -> Tensor:
    """Random valid pixels (x, y), with replacement.

    Args:
        valid: ``(B, H, W)`` bool.
        count: Points per sample.

    Returns:
        ``(B, count, 2)`` float32; zeros where fewer than ``count`` pixels are valid.
    """
    so_far = valid.flatten(1).cumsum(1)  # (B, H * W)
    ranks = torch.zeros(len(valid), count, dtype=torch.long)
    for entry, total in enumerate(so_far[:, -1].tolist()):  # the only wait for the device
        if total >= count:
            ranks[entry] = 1 + torch.randint(total, (count,))
    # Rank 0 finds pixel 0.
    pixels = torch.searchsorted(so_far, to_device(ranks, valid.device))
    columns, rows = pixels % valid.shape[2], pixels.div(valid.shape[2], rounding_mode="floor")
    return torch.stack([columns, rows], dim=-1).float()


@MODELS.register_module()
class StreamVGGT(VGGT):
    """Streaming visual geometry transformer (arXiv 2507.11539).

    Same parameters as :class:`VGGT`; frames see only themselves and earlier ones.

    Args:
        teacher: Config of the :class:`VGGT` whose outputs are the training targets. It is
            not part of the state dict and never trained. None to train on ground truth.
            Defaults to None.
        teacher_checkpoint: File with the teacher's weights. Defaults to None.
        predict_stream: Arguments of :class:`StreamSession`; predictions then run frame by
            frame, with the memory of the policy. None predicts in one full pass, which gives
            the same numbers as the full policy. Defaults to None.
        num_queries: Points to track in training, drawn where the first frame's depth is
            valid (needs a track head). Defaults to 64.
        **kwargs: Arguments of :class:`VGGT`.
    """

    causal = True

    def __init__(
        self,
        teacher: Mapping | None = None,
        teacher_checkpoint: str | None = None,
        predict_stream: Mapping | None = None,
        num_queries: int = 64,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.predict_stream = predict_stream
        self.num_queries = num_queries
        #: Bytes of the cache at the end of the last streamed prediction.
        self.last_cache_nbytes = 0
        # In a list, so that it is no child module: checkpoints hold the student alone.
        self._teacher: list[nn.Module] = []
        self.teacher_checkpoint = teacher_checkpoint
        if teacher is not None:
            self.set_teacher(freeze(MODELS.build(dict(teacher))))
        elif teacher_checkpoint is not None:
            raise ValueError("teacher_checkpoint: expected a teacher too, got none")

    def init_weights(self) -> None:
        """Initialise, and load the teacher strictly where it has a checkpoint."""
        super().init_weights()
        if self.teacher is None:
            return
        if self.teacher_checkpoint is None:
            self.teacher.init_weights()
        else:
            load_checkpoint(self.teacher, self.teacher_checkpoint, map_location="cpu", strict=True)

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen teacher, if there is one."""
        return self._teacher[0] if self._teacher else None

    def set_teacher(self, teacher: nn.Module) -> None:
        """Use ``teacher`` from now on; it is frozen and put in eval mode."""
        self._teacher = [teacher.requires_grad_(False).eval()]

    def _apply(self, fn, recurse: bool = True) -> "StreamVGGT":
        for module in self._teacher:
            module._apply(fn)
        return super()._apply(fn, recurse)

    def new_cache(
        self,
        policy: CachePolicy | Mapping | str | None = None,
        dtype: str | torch.dtype | None = None,
        camera_cache_mode: str = "per_iteration",
        max_steps: int | None = None,
    ) -> StreamCache:
        """An empty cache that fits this model; see :class:`StreamCache`."""
        head = self.camera_head
        return StreamCache(
            self.aggregator.depth,
            0 if head is None else head.trunk_depth,
            1 if head is None else head.num_iterations,
            policy,
            dtype,
            camera_cache_mode,
            max_steps,
        )

    def stream_step(self, images: Tensor, cache: StreamCache) -> dict[str, Tensor]:
        """Process one time step and update the cache.

        Args:
            images: Frames of the step, ``(B, V, 3, H, W)`` in [0, 1]; V is 1, or the number
                of cameras of a rig.
            cache: From :meth:`new_cache`; changed in place.

        Returns:
            Outputs as of :meth:`run` with S = V, and ``descriptor`` ``(B, C)``, the mean
            patch embedding of the step at unit length. With a track head also
            ``track_features`` is a function that makes the step's feature maps on demand.
        """
        aggregator = self.aggregator
        patches = aggregator.embed_patches(images)
        descriptor = F.normalize(patches.float().mean(dim=(1, 2)), dim=-1)
        tokens = aggregator.add_special_tokens(patches, cache.num_steps * images.shape[1])
        cache.begin_step(descriptor, images.shape[1], tokens.shape[2], aggregator.num_special)
        attends = [cache.attend(layer) for layer in range(aggregator.depth)]
        kept = aggregator.run_pairs(tokens, images.shape[-2:], attends)
        outputs = self.run_dense_heads(kept, images)
        if self.camera_head is not None:
            poses = self.camera_head.refine(kept[self.last_layer][:, :, 0], cache.camera_attend)
            outputs.update(pose_enc=poses[-1], pose_enc_iters=poses)
        cache.end_step()
        outputs["descriptor"] = descriptor
        if self.track_head is not None:
            outputs["track_features"] = lambda: self.track_features(kept, images)
        return outputs

    def stream(self, **kwargs) -> StreamSession:
        """A session that keeps the state of one stream; see :class:`StreamSession`."""
        return StreamSession(self, **kwargs)

    @torch.no_grad()
    def inference(
        self, stream: Iterable[Tensor | Mapping], **kwargs
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the result of every frame as it comes; nothing is kept.

        Args:
            stream: Frames ``(B, 3, H, W)`` or ``(3, H, W)``, rig steps ``(B, V, 3, H, W)``,
                or dicts with ``img`` (and optionally ``valid_mask``).
            **kwargs: Arguments of :class:`StreamSession`.

        Yields:
            Per-frame results of :func:`split_frames`, one per frame and camera.
        """
        session = self.stream(**kwargs)
        for view in stream:
            images = view["img"] if isinstance(view, Mapping) else view
            views = [view] if isinstance(view, Mapping) else None
            yield from split_frames(session.step(images), views)

    def predict(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        data_samples: Sequence | None = None,
    ) -> list[SequenceDataSample]:
        """One data sample per sequence; frame by frame with ``predict_stream``."""
        if self.predict_stream is None:
            return super().predict(images, query_points, data_samples)
        session = self.stream(**self.predict_stream, query_points=query_points)
        steps = []
        for frame in images.unbind(1):
            out = session.step(frame)
            steps.append({k: v for k, v in out.items() if k in FRAME_KEYS})
        self.last_cache_nbytes = session.cache.nbytes
        outputs = {name: torch.cat([s[name] for s in steps], dim=1) for name in steps[0]}
        return self.fill_samples(outputs, images, data_samples)

    def loss(
        self, images: Tensor, query_points: Tensor | None, data_samples: Sequence | None
    ) -> dict[str, Tensor]:
        """Losses against the teacher or the ground truth."""
        if query_points is None and self.track_head is not None and data_samples:
            depths = torch.stack([sample.gt_depths[0] for sample in data_samples])
            query_points = draw_query_points(depths > 0, self.num_queries)
        return super().loss(images, query_points, data_samples)

    def targets(
        self, images: Tensor, query_points: Tensor | None, data_samples: Sequence | None
    ) -> list[dict[str, Tensor]]:
        """Outputs of the teacher with the ground truth's masks, or the ground truth alone."""
        if self.teacher is None:
            return super().targets(images, query_points, data_samples)
        with torch.no_grad():
            check_loaded(self.teacher, "model.teacher")
            targets = split_frames(self.teacher.run(images, query_points))
        if data_samples:
            truth = super().targets(images, query_points, data_samples)
            for target, frame in zip(targets, truth):
                target["valid_mask"] = frame["valid_mask"]
        return targets
