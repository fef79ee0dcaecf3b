"""Pictures and films."""

import contextlib
import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
from PIL import Image

from mmcity.utils.fileio import atomic_path
from mmcity.utils.picture_names import without_suffix

from .color_maps import to_uint8

#: What 1 becomes in a picture of 16 bits.
LEVELS = 65535
#: Constant rate factor of H.264, 0 (best) to 51.
_QUALITY = "15"


def pictures_beside(source: str | os.PathLike) -> Path:
    """Folder for the pictures of a result: in a folder of results, beside a file.

    Args:
        source: ``results`` (a folder) gives ``results/pictures``, ``run/scene.ply`` gives
            ``run/scene_pictures``; of what is not on this disk the name counts.
    """
    source = Path(source)
    if source.is_dir():
        return source / "pictures"
    name = f"{without_suffix(source.name)}_pictures"
    return source.with_name(name) if source.exists() else Path(name)


def write_image(path: str | os.PathLike, image, is_live: bool = False) -> None:
    """Write an image (3, H, W) or (H, W, 3) as PNG or JPEG, whole or not at all.

    Args:
        path: Target.
        image: Array or tensor, see :func:`to_uint8`.
        is_live: Write in a sixth of the time; a PNG is up to twice as large. Defaults to False.
    """
    with atomic_path(path) as temporary:
        if not is_live:
            Image.fromarray(to_uint8(image)).save(temporary)
        else:  # cv2.imwrite would not see a full disk
            temporary.write_bytes(cv2.imencode(temporary.suffix, to_uint8(image)[..., ::-1])[1])


def write_grey16(path: str | os.PathLike, values: np.ndarray) -> None:
    """Write values (H, W) in [0, 1] as a PNG of 16 bits, whole or not at all."""
    levels = np.round(np.clip(values, 0, 1) * LEVELS).astype(np.uint16)
    with atomic_path(path) as temporary:
        Image.fromarray(levels).save(temporary)


def write_video(path: str | os.PathLike, frames: Iterable, fps: float = 24.0) -> int:
    """Write frames as a film, whole or not at all.

    ``.gif`` is written by Pillow, ``.mp4`` by imageio-ffmpeg (H.264), which wants even sizes: an
    odd last row or column is cut off.

    Args:
        path: Target, ``.mp4`` or ``.gif``.
        frames: Images (3, H, W) or (H, W, 3), all of one size.
        fps: Frames per second. Defaults to 24.

    Returns:
        Number of frames.

    Raises:
        ValueError: On another suffix or without frames.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".mp4", ".gif"):
        raise ValueError(f"{path}: expected a name that ends in .mp4 or .gif")
    pictures = (to_uint8(frame) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: expected frames to write, got none")

    def every() -> Iterable[np.ndarray]:
        yield first
        yield from pictures

    with atomic_path(path) as temporary:
        write = _write_gif if suffix == ".gif" else _write_mp4
        return write(temporary, every(), fps)


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    images = [Image.fromarray(frame) for frame in frames]
    options = dict(duration=1000 / fps, loop=0, optimize=True)
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return len(images)


def _write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    frames = (np.ascontiguousarray(f[: len(f) // 2 * 2, : f.shape[1] // 2 * 2]) for f in frames)
    first = next(frames)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{first.shape[1]}x{len(first)}"]
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", _QUALITY, f"file:{path}"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source]
    command += ["-r", f"{fps:.6f}", "-i", "-", *target]
    count = 0
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as encoder,
    ):
        try:
            for frame in itertools.chain([first], frames):
                encoder.stdin.write(frame)
                count += 1
            encoder.stdin.close()
        except BrokenPipeError:  # it has ended, and its status tells why
            with contextlib.suppress(BrokenPipeError):
                encoder.stdin.close()
        except BaseException:
            encoder.kill()
            raise
        if encoder.wait():
            log.seek(0)
            reasons = log.read().decode(errors="replace").splitlines() or ["no reason"]
            raise OSError(f"ffmpeg: {reasons[0]}")
    return count
