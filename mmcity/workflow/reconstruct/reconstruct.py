"""From photographs or a film to a scene."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError
from mmcity.utils.config_index import config_file
from mmcity.utils.device import device_at_hand
from mmcity.utils.images import list_images
from mmcity.utils.setup_env import register_all_modules
from mmcity.workflow.chain import Chain
from mmcity.workflow.manifest import Manifest

from .report import Report, make_report

#: By the kind of the device at hand.
_CONFIGS = {"cuda": "3dgs_mcmc_colmap", "cpu": "3dgs_colmap_cpu"}


def reconstruct(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    minutes: float = 4.0,
    max_iters: int | None = None,
    mesh: bool = False,
    ortho: bool = False,
    config: str | os.PathLike | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    max_frames: int = 150,
    test_every: int = 10,
    matching: str = "auto",
    stream_weights: str | os.PathLike | None = None,
    stream_config: str | os.PathLike = "streamvggt_1b",
    seed: int = 0,
    force: Iterable[str] = (),
    until: str | None = None,
) -> Report:
    """Choose pictures, find their poses, check them, train a scene and export it.

    A finished step (``pictures``, ``poses``, ``checks``, ``training``, ``scene``, ``mesh``,
    ``ortho``) is not run again; a killed one goes on. Steps and their logs lie in ``OUT/steps``.

    Args:
        source: Folder of pictures (with sub-folders) or of a COLMAP scene, or a film.
        out: Folder for ``scene.ply``, ``scene.spz``, ``scene.html``, ``views.png``, ``report.md``
            and ``report.json``.
        minutes: Time of the training, with which its schedules are scaled. Defaults to 4.
        max_iters: Iterations in place of a time. Defaults to None.
        mesh: Also extract a surface. Defaults to False.
        ortho: Also render an orthophoto with heights. Defaults to False.
        config: Training config of a scene, a file or a name that ``mmcity list`` prints. Defaults
            to None: ``3dgs_mcmc_colmap`` on a GPU, else ``3dgs_colmap_cpu``.
        cfg_options: Dotted keys of the config and their values. Defaults to None.
        max_frames: Most frames of a film. Defaults to 150.
        test_every: Hold out every n-th picture, to measure the scene; 0 holds out none, and so do
            fewer pictures than half of n. Defaults to 10.
        matching: Which pairs of pictures are matched, see
            :func:`~mmcity.datasets.converters.map_pictures`. Defaults to ``auto``.
        stream_weights: Checkpoint of the streaming model, which then finds the poses. Defaults to
            None: structure from motion does.
        stream_config: Its config. Defaults to ``streamvggt_1b``.
        seed: Of poses and training. Defaults to 0.
        force: Steps to run anew. Defaults to none.
        until: Step to stop after. Defaults to None.

    Returns:
        What was made, and what failed and why, as the reports have it.

    Raises:
        UserError: If an argument is of no use, or a step fails; the report is written then, too.
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    check_choice("matching", matching, ("auto", "exhaustive", "sequential"))
    if out == source or (source.is_dir() and out.is_relative_to(source)):
        raise UserError(f"{out}: expected a folder outside of the pictures, got one in {source}")
    if not source.exists():
        raise UserError(f"{source}: expected a folder of pictures or a film, found none")
    train = str(config_file(config or _CONFIGS[device_at_hand()]))
    shared = {"randomness.seed": seed}
    poses: dict[str, Any] = dict(type="ScenePoses", mapping=dict(matching=matching))
    if stream_weights is not None:
        poses = dict(
            type="StreamPoses",
            config=str(config_file(stream_config)),
            weights=str(Path(stream_weights).resolve()),
        )
    stages: dict[str, dict[str, Any]] = {
        "pictures": dict(
            type="ChoosePictures",
            source=str(source),
            max_frames=max_frames,
            fingerprint=_fingerprint(source),
        ),
        "poses": dict(**poses, test_every=test_every),
        "checks": dict(type="CheckScene", regression=False, unneeded=("scale", "split")),
        "training": dict(
            type="TrainScene",
            config=train,
            minutes=None if max_iters else minutes,
            max_iters=max_iters,
            cfg_options={**shared, **(cfg_options or {})},
        ),
        "scene": dict(type="FinishScene", out=str(out)),
    }
    if mesh:
        stages["mesh"] = dict(type="MeshScene", out=str(out))
    if ortho:
        stages["ortho"] = dict(type="OrthoScene", out=str(out))
    register_all_modules()
    out.mkdir(parents=True, exist_ok=True)
    chain = Chain(stages, out / "steps", seed, show_calls=False)
    reports = []

    def tell(manifest: Manifest) -> None:
        reports.append(make_report(manifest, str(source), out))
        logs = out / "steps" / "*" / "log.txt"
        print(f"\n{reports[0]}\n\nreport: {out / 'report.md'}\nlogs: {logs}", flush=True)

    chain.run(force, until=until, report=tell)
    return reports[0]


def _fingerprint(source: Path) -> str:
    """Digest of names, sizes and times of the files, by which changed pictures are known."""
    files = list_images(source, recursive=True) if source.is_dir() else [source]
    rows = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
