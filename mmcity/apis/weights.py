"""Downloads of published weights."""

import difflib
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from mmcity.utils.cli import UserError
from mmcity.utils.fileio import atomic_path
from mmcity.utils.published_weights import download, read_weights_index

from .convert_checkpoint import convert_checkpoint


def get_weights(name: str, *, force: bool = False, show_progress: bool = True) -> Path:
    """Download published weights, check them, and convert them to a checkpoint of ours.

    What is already there stays. A download that was cut off goes on where it ended. The files
    lie in ``~/.cache/mmcity/weights``, or below the folder that ``MMCITY_CACHE`` names.

    Args:
        name: As ``mmcity weights list`` prints it.
        force: Download it anew. Defaults to False.
        show_progress: Show a progress bar where the output is a terminal. Defaults to True.

    Returns:
        The file; its name stands for it wherever a checkpoint is asked for.

    Raises:
        UserError: If there are no weights of this name.
        DownloadError: If the download did not come to its end, or is another file.
        CheckpointError: If the weights do not fit their config.
    """
    index = read_weights_index()
    if name not in index:
        alike = difflib.get_close_matches(name, index, n=3) or list(index)
        raise UserError(
            f"weights {name}: expected a published name, got another: did you mean "
            f"{' or '.join(alike)}? (`mmcity weights list` prints all)"
        )
    weights = index[name]
    if weights.path.is_file() and not force:
        return weights.path
    source = weights.path
    if weights.converter is not None:
        source = source.with_name(f"{name}.published{Path(weights.url or '').suffix}")
    if not source.is_file() or force:
        bar = Progress(
            "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn(),
            disable=not show_progress, transient=True,
        )  # fmt: skip
        with bar:
            task = bar.add_task(name, total=weights.size)
            for done, total in download(weights, source):
                bar.update(task, completed=done, total=total or weights.size)
    if weights.converter is not None:
        with atomic_path(weights.path) as converted:
            convert_checkpoint(weights.converter, source, converted, config=weights.config)
        source.unlink()
    return weights.path
