"""Reconstruction of a stream, written to a folder while it runs."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmcity.datasets.frame_sources import open_source

from .stream_writer import StreamWriter
from .streaming_reconstructor import StreamingReconstructor


def stream_source(
    sources: Sequence[str],
    out: str | os.PathLike,
    *,
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    decoder: str = "opencv",
    formats: Sequence[str] = ("ply",),
    max_points: int = 1_000_000,
    percentile: float = 50.0,
    save_depth: bool = True,
    viewer_port: int | None = None,
    **options: Any,
) -> Path:
    """Reconstruct a stream or the streams of a rig; print what each frame took.

    Args:
        sources: Folder of images, video file, or ``webcam:NUMBER``; several are the cameras of a
            rig.
        out: Folder for the results, see :class:`StreamWriter`.
        config: Config of the model.
        checkpoint: Its weights, see :class:`~mmcity.apis.Inferencer`.
        stride: Take every n-th frame. Defaults to 1.
        max_frames: Of each source. Defaults to all.
        decoder: ``opencv`` or ``pyav``, of videos and cameras. Defaults to ``opencv``.
        formats: Of the points, ``ply`` and ``glb``. Defaults to ``ply``.
        max_points: Points that are kept. Defaults to 1,000,000.
        percentile: Of confidence, below it points are left out. Defaults to 50.
        save_depth: Write depth maps. Defaults to True.
        viewer_port: Show the reconstruction in the browser while it grows, at this
            port. Defaults to None.
        options: Further arguments of :class:`StreamingReconstructor`: ``device``, ``dtype``,
            ``policy``, ``cache_dtype``, ``camera_cache_mode``, ``image_size``, ``resize``,
            ``use_proj``.

    Returns:
        The folder.
    """
    reconstructor = StreamingReconstructor(config, checkpoint, show_progress=False, **options)
    writer = StreamWriter(out, tuple(formats), max_points, percentile, save_depth)
    viewer = None
    if viewer_port is not None:
        from mmcity.visualization.viewer import Viewer

        viewer = Viewer(port=viewer_port, up="-y", title="mmcity stream")
        print(f"live view: {viewer.url}", flush=True)
        reconstructor.callbacks.append(viewer.add_frame)
    opened = [open_source(source, stride, max_frames, decoder) for source in sources]
    results = reconstructor(opened[0]) if len(opened) == 1 else reconstructor.run_rig(opened)
    with writer:
        start = time.perf_counter()
        for result in results:
            writer.write(result)
            now = time.perf_counter()
            camera = f" of camera {result.camera}" if len(opened) > 1 else ""
            print(
                f"frame {result.index}{camera} ({result.name}): {1000 * (now - start):.0f} ms, "
                f"cache {reconstructor.cache_nbytes / 2**20:.1f} MiB",
                flush=True,
            )
            start = time.perf_counter()
    if viewer is not None:
        viewer.close()
    return writer.folder
