"""Motion in a clip of occupancy: of the ego vehicle, by registration, and of other vehicles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

#: Unified classes that stand still.
STATIC_CLASSES = (1, 2, 3, 5, 6, 7, 8, 9)
#: Overlap, as a share of the grid's columns, below which a shift is not considered.
_MIN_OVERLAP = 0.3


@dataclass
class EgoMotion:
    """Constant planar motion that explains a clip best.

    Attributes:
        step: (3,) forward, left (voxels) and turn (radians) from frame to frame.
        agreement: Share of the static columns in the overlap that then agree.
    """

    step: np.ndarray
    agreement: float

    def poses(self, frames: int, voxel_size: float = 1.0) -> np.ndarray:
        """(T, 3) x, y, yaw of the ego vehicle in the frame of its first pose."""
        poses = np.zeros((frames, 3))
        for i in range(1, frames):
            yaw = poses[i - 1, 2]
            turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
            poses[i, :2] = poses[i - 1, :2] + turn @ self.step[:2] * voxel_size
            poses[i, 2] = yaw + self.step[2]
        return poses


def _columns(clip: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Class of the lowest and of the highest static voxel of each column as one-hot
    channels, (T, 2C, X, Y) float32."""
    channels = np.zeros(256, dtype=np.int64)
    channels[list(classes)] = np.arange(1, len(classes) + 1)
    kind = channels[clip]  # (T, X, Y, Z), 0 is not static
    solid = kind > 0
    low = np.take_along_axis(kind, solid.argmax(-1)[..., None], -1)[..., 0]
    top = kind.shape[-1] - 1 - solid[..., ::-1].argmax(-1)
    high = np.take_along_axis(kind, top[..., None], -1)[..., 0]
    steps = np.arange(1, len(classes) + 1)[:, None, None]
    hot = [part[:, None] == steps for part in (low, high)]
    return np.concatenate(hot, axis=1).astype(np.float32)


def _warp_index(shape: tuple[int, int], yaw: float, shift: np.ndarray) -> tuple:
    """Cells of the earlier frame that cells of the later one see, and whether they exist."""
    x, y = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    cos, sin = np.cos(yaw), np.sin(yaw)
    i = cos * x - sin * y + shift[0] + (shape[0] - 1) / 2
    j = sin * x + cos * y + shift[1] + (shape[1] - 1) / 2
    i, j = np.rint(i).astype(int), np.rint(j).astype(int)
    inside = (i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1])
    return np.clip(i, 0, shape[0] - 1), np.clip(j, 0, shape[1] - 1), inside


def register_motion(
    clip: np.ndarray,
    lag: int = 3,
    max_step: float = 6.0,
    yaws: Sequence[float] = tuple(np.deg2rad(np.arange(-18.0, 18.1, 2.0))),
    classes: Sequence[int] = STATIC_CLASSES,
) -> EgoMotion:
    """Find the ego motion of a clip from what stands still.

    The motion is taken as constant over the clip. All pairs of frames ``lag`` apart vote, by
    the share of static columns (lowest and highest class) that agree, for each shift
    (by Fourier correlation) and turn.

    Args:
        clip: Labels ``(T, X, Y, Z)``; x forward, y left, the ego vehicle in the middle.
        lag: Frames between the two of a pair; shifts have the resolution of one voxel over
            the lag. Defaults to 3.
        max_step: Largest shift from frame to frame, voxels. Defaults to 6.
        yaws: Turns between the frames of a pair that are tried, radians.
        classes: What stands still. Defaults to the unified classes that do.

    Raises:
        ValueError: If the clip is too short.
    """
    if len(clip) < 2:
        raise ValueError(f"clip: expected at least 2 frames, got {len(clip)}")
    lag = min(lag, len(clip) - 1)
    columns = _columns(clip, classes)
    frames, _, size_x, size_y = columns.shape
    reach = min(int(np.ceil(max_step * lag)), size_x // 2, size_y // 2)
    padded = (size_x + reach, size_y + reach)
    known = columns.max(1)  # (T, X, Y) whether a column is static at all
    first = np.fft.rfft2(columns[:-lag], padded)
    first_known = np.fft.rfft2(known[:-lag], padded)
    zero = _shift_window(np.zeros(padded, np.float32), reach).shape
    best = EgoMotion(np.zeros(3), -1.0)
    half = columns.shape[1] // 2
    for yaw in yaws:
        # Cells of the later frame, turned into the axes of the earlier one.
        i, j, inside = _warp_index((size_x, size_y), -yaw, np.zeros(2))
        later = columns[lag:, :, i, j] * inside
        later_known = known[lag:, i, j] * inside
        agree = np.zeros(zero)
        overlap = np.zeros(zero)
        for k in range(frames - lag):
            product = (first[k] * np.conj(np.fft.rfft2(later[k], padded))).sum(0)
            agree += _shift_window(np.fft.irfft2(product, padded), reach) / 2
            product = first_known[k] * np.conj(np.fft.rfft2(later_known[k], padded))
            overlap += _shift_window(np.fft.irfft2(product, padded), reach)
        enough = overlap > _MIN_OVERLAP * max(float(known[lag:].sum()), 1.0)
        score = np.where(enough, agree / np.maximum(overlap, 1e-6), -1.0)
        # Where votes tie, the smaller motion wins.
        offset = np.arange(-reach, reach + 1)
        score = score - 1e-5 * np.hypot(*np.meshgrid(offset, offset, indexing="ij"))
        score = score - 1e-5 * abs(yaw) * half
        index = np.unravel_index(score.argmax(), score.shape)
        if score[index] > best.agreement:
            shift = np.array(index) - reach
            # The shift is that of a chord; the step of each frame turns along.
            turn = yaw / lag
            headings = turn * np.arange(lag)
            matrix = np.array(
                [
                    [np.cos(headings).sum(), -np.sin(headings).sum()],
                    [np.sin(headings).sum(), np.cos(headings).sum()],
                ]
            )
            step = np.linalg.solve(matrix, shift)
            best = EgoMotion(np.array([*step, turn]), float(score[index]))
    return best


def _shift_window(correlation: np.ndarray, reach: int) -> np.ndarray:
    """Correlation at shifts -reach..reach of both axes."""
    index = np.arange(-reach, reach + 1)
    return correlation[np.ix_(index, index)]


def static_consistency(
    clip: np.ndarray, motion: EgoMotion, classes: Sequence[int] = STATIC_CLASSES
) -> np.ndarray:
    """IoU of static voxels between neighbouring frames once the ego motion is undone.

    Args:
        clip: Labels ``(T, X, Y, Z)``.
        motion: Of the ego vehicle.
        classes: What stands still.

    Returns:
        np.ndarray: ``(T - 1,)`` class-wise matches over the union, where both frames see.
    """
    static = np.isin(clip, classes)
    result = []
    for t in range(1, len(clip)):
        i, j, inside = _warp_index(clip.shape[1:3], motion.step[2], motion.step[:2])
        before, was_static = clip[t - 1][i, j][inside], static[t - 1][i, j][inside]
        now, is_static = clip[t][inside], static[t][inside]
        union = (was_static | is_static).sum()
        match = (was_static & is_static & (before == now)).sum()
        result.append(match / union if union else 1.0)
    return np.array(result)


def vehicle_statistics(
    clip: np.ndarray, motion: EgoMotion, vehicle_class: int = 10, min_voxels: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Vehicles as connected components, and how fast they move.

    Args:
        clip: Labels ``(T, X, Y, Z)``.
        motion: Of the ego vehicle, taken out of the speeds.
        vehicle_class: Defaults to 10.
        min_voxels: Smaller components are not counted. Defaults to 4.

    Returns:
        tuple: components of each frame ``(T,)``, and speeds (N,) in voxels a frame of all
        components that have one near by in the frame before.
    """
    counts, speeds, previous = [], [], None
    cos, sin = np.cos(motion.step[2]), np.sin(motion.step[2])
    middle = (np.array(clip.shape[1:3]) - 1) / 2
    for frame in clip:
        components, number = label(frame == vehicle_class)
        centers = []
        for k in range(1, number + 1):
            cells = np.argwhere(components == k)
            if len(cells) >= min_voxels:
                centers.append(cells[:, :2].mean(0) - middle)
        counts.append(len(centers))
        centers = np.array(centers).reshape(-1, 2)
        if previous is not None and len(previous) and len(centers):
            carried = centers @ np.array([[cos, -sin], [sin, cos]]).T + motion.step[:2]
            distance = np.linalg.norm(carried[:, None] - previous[None], axis=-1).min(1)
            speeds.extend(distance[distance < 6.0])
        previous = centers
    return np.array(counts), np.array(speeds)
