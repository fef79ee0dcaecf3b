"""Temporal numbers of clips in files."""

import os
from pathlib import Path

from mmcity.evaluation.metrics import TemporalConsistency
from mmcity.utils.failures import ItemFailures
from mmcity.utils.picture_names import natural_order

from .occupancy_generator import read_array


def measure_clip_consistency(
    folder: str | os.PathLike,
    *,
    window: int | None = None,
    overlap: int = 0,
    voxel_size: float = 0.4,
    frame_time: float = 0.1,
    failures: ItemFailures | None = None,
) -> dict[str, float]:
    """Measure consistency, speeds and vehicle counts of the clips of a folder.

    Args:
        folder: ``.npz`` files with an array ``voxels`` ``(T, X, Y, Z)``, as ``mmcity generate``
            writes them.
        window: Frames of the windows that were joined, to measure the seams too. Defaults to
            None.
        overlap: Frames that windows share. Defaults to 0.
        voxel_size: Metres. Defaults to 0.4.
        frame_time: Seconds between frames. Defaults to 0.1.
        failures: Takes the clips that cannot be read. Defaults to None: they are an error.

    Returns:
        Numbers by name; see :class:`~mmcity.evaluation.metrics.TemporalConsistency`.

    Raises:
        FileNotFoundError: If the folder holds no clips.
    """
    files = natural_order(Path(folder).glob("*.npz"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected .npz clips, got none")
    seams = None if window is None else (window, window - overlap)
    metric = TemporalConsistency(voxel_size, frame_time, seams=seams)
    bad = ItemFailures("clips") if failures is None else failures
    for file in files:
        with bad.item(str(file)):
            metric.process({}, [{"pred_occupancy": read_array(file, "voxels")}])
    if failures is None or not metric.results:
        bad.check()
    return metric.compute_metrics(metric.results)
