"""State of one stream: cache, chunk transforms, tracked points."""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from .cache import CachePolicy, ChunkPolicy, build_policy
from .chunking import ChunkStitcher
from .track_window import TrackWindow
from .vggt import VGGT


class StreamSession:
    """Feeds frames to a :class:`StreamVGGT` one step at a time.

    Args:
        model: The causal network; put it in eval mode and in the wanted dtype beforehand.
        policy: What the cache keeps, see :func:`build_policy`. Defaults to everything.
        cache_dtype: Storage of the cache: ``'fp32'``, ``'bf16'``, ``'fp16'``, ``'fp8'``,
            ``'int8'``. Defaults to None (as computed).
        camera_cache_mode: See :class:`StreamCache`. Defaults to ``'per_iteration'``.
        max_steps: Steps to allocate ahead for the full policy. Defaults to None.
        query_points: Pixels (x, y) of the first frame to track, ``(B, N, 2)``.
            Defaults to None.
        track_window: Steps the tracker sees at once, the query frame included.
            Defaults to 8.
    """

    def __init__(
        self,
        model: VGGT,
        policy: CachePolicy | Mapping | str | None = None,
        cache_dtype: str | torch.dtype | None = None,
        camera_cache_mode: str = "per_iteration",
        max_steps: int | None = None,
        query_points: Tensor | None = None,
        track_window: int = 8,
    ) -> None:
        self.model = model
        self.policy = build_policy(policy)
        self.cache = model.new_cache(self.policy, cache_dtype, camera_cache_mode, max_steps)
        self.num_steps = 0
        self.stitcher: ChunkStitcher | None = None
        self._recent: deque[Tensor] = deque()
        if isinstance(self.policy, ChunkPolicy):
            self.stitcher = ChunkStitcher(model, self.policy)
            self._recent = deque(maxlen=self.policy.overlap)
        self.tracker: TrackWindow | None = None
        if query_points is not None:
            if model.track_head is None:
                raise ValueError("query_points: expected none without a track head, got some")
            self.tracker = TrackWindow(model, query_points, track_window)

    def reset(self) -> None:
        """Start a new sequence, keep the memory."""
        self.cache.reset()
        self.num_steps = 0
        self._recent.clear()
        if self.stitcher is not None:
            self.stitcher.reset()
        if self.tracker is not None:
            self.tracker.reset()

    @torch.no_grad()
    def step(self, images: Tensor) -> dict[str, Tensor]:
        """Process one time step.

        Args:
            images: ``(3, H, W)``, ``(B, 3, H, W)`` or, for rigs, ``(B, V, 3, H, W)``, in [0, 1].

        Returns:
            Outputs as of :meth:`StreamVGGT.run` with S = V frames, in the world of the
            first frame also across chunks.
        """
        if images.dim() == 3:
            images = images[None]
        if images.dim() == 4:
            images = images[:, None]
        if self.stitcher is not None and self.cache.num_steps == self.policy.num_frames:
            self._restart()
        outputs = self.model.stream_step(images, self.cache)
        features = outputs.pop("track_features", None)
        if self.stitcher is not None:
            # Kept images are bounded by the overlap.
            self._recent.append(images)
            outputs = self.stitcher.place(outputs, images, self.num_steps)
        if self.tracker is not None:
            outputs.update(self.tracker.step(features()))
        self.num_steps += 1
        return outputs

    def _restart(self) -> None:
        """Begin a chunk: run the overlap through an empty cache and align the two views."""
        self.cache.reset()
        again = []
        for images in self._recent:
            outputs = self.model.stream_step(images, self.cache)
            outputs.pop("track_features", None)
            again.append(outputs)
        self.stitcher.begin_chunk(again)

    def state_dict(self) -> dict:
        """Everything needed to go on later."""
        return {
            "num_steps": self.num_steps,
            "cache": self.cache.state_dict(),
            "recent": [images.clone() for images in self._recent],
            "stitcher": None if self.stitcher is None else self.stitcher.state_dict(),
            "tracker": None if self.tracker is None else self.tracker.state_dict(),
        }

    def load_state_dict(self, state: Mapping, device: torch.device | str | None = None) -> None:
        """Restore :meth:`state_dict` in a session built with the same arguments."""
        self.cache.load_state_dict(state["cache"], device)
        self.num_steps = state["num_steps"]
        self._recent.clear()
        self._recent.extend(images.to(device) for images in state["recent"])
        for part, saved in ((self.stitcher, state["stitcher"]), (self.tracker, state["tracker"])):
            if (part is None) != (saved is None):
                raise ValueError("saved state: expected arguments of this session, got others")
            if part is not None:
                part.load_state_dict(saved, device)
