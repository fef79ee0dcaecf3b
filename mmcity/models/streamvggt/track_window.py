"""Point tracks in a stream, from the query frame and the last few frames."""

from collections import deque

import torch
from torch import Tensor

from .vggt import VGGT


class TrackWindow:
    """Keeps the features of the query frame and of a window of frames, and tracks in them.

    The published streaming loop shows the tracker one frame at a time and so returns the
    query points unchanged. Here the newest frame is tracked together with the query frame
    and the frames between; while these fit the window, the result equals the full pass.

    Args:
        model: A model with a track head.
        query_points: Pixels (x, y) of the first frame, ``(B, N, 2)``.
        window: Frames tracked at once, the query frame included.
    """

    def __init__(self, model: VGGT, query_points: Tensor, window: int) -> None:
        if window < 2:
            raise ValueError(f"track_window: expected at least 2, got {window}")
        self.model = model
        self.query_points = query_points
        self._first: Tensor | None = None
        self._recent: deque[Tensor] = deque(maxlen=window - 1)

    def reset(self) -> None:
        """Forget all frames."""
        self._first = None
        self._recent.clear()

    def step(self, maps: Tensor) -> dict[str, Tensor]:
        """Tracks in a new step with feature maps ``(B, V, C, h, w)``; V frames are returned."""
        frames = maps.shape[1]
        if self._first is None:
            self._first = maps
            window = maps
        else:
            self._recent.append(maps)
            window = torch.cat([self._first, *self._recent], dim=1)
        tracks = self.model.run_tracker(self.query_points.to(maps.device), window)
        tracks.pop("track_iters")
        return {name: value[:, -frames:] for name, value in tracks.items()}

    def state_dict(self) -> dict:
        """Features and query points."""
        return {
            "query_points": self.query_points,
            "first": self._first,
            "recent": list(self._recent),
        }

    def load_state_dict(self, state: dict, device: torch.device | str | None = None) -> None:
        """Restore :meth:`state_dict`."""
        self.reset()
        self.query_points = state["query_points"].to(device)
        self._first = None if state["first"] is None else state["first"].to(device)
        self._recent.extend(maps.to(device) for maps in state["recent"])
