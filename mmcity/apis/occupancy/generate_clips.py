"""Writing generated clips of occupancy to files: resumable, in batches."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from mmcity.apis.occupancy.occupancy_generator import OccupancyGenerator, read_array
from mmcity.engine.launch import load_config
from mmcity.models.dynamiccity.inpainting import RepaintSchedule
from mmcity.structures import VoxelGrid
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import atomic_path, to_json
from mmcity.utils.made_from import file_digest, keep_made_alike
from mmcity.utils.torch_files import tensors_digest
from mmcity.visualization import write_video
from mmcity.visualization.occupancy import write_clip_pictures
from mmcity.visualization.occupancy_page import write_occupancy_page
from mmcity.visualization.occupancy_splats import grid_camera, splat_occupancy

_SAMPLERS = {"ddpm": "AncestralSampler", "ddim": "DDIMSampler", "dpm++": "DPMSolverSampler"}
#: Arguments on which the content of a clip does not depend, or by their own digest.
_NO_CONTENT = (
    *("config", "cfg_options", "checkpoint", "vae_checkpoint"),
    *("out_dir", "num_samples", "device"),
)
_FILM_SIZE = (320, 480)


def generate_clips(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    vae_checkpoint: str | os.PathLike | None = None,
    num_samples: int = 16,
    num_windows: int = 1,
    overlap: int | None = None,
    command: int | None = None,
    trajectory: str | os.PathLike | None = None,
    layouts: Sequence[str | os.PathLike] = (),
    inpaint: str | os.PathLike | None = None,
    region: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    repaint: Sequence[int] | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 1,
    device: str | None = None,
    raw: bool = False,
    show: bool = False,
    cfg_options: Mapping[str, object] | None = None,
) -> list[Path]:
    """Generate, continue or inpaint clips; those of the same weights and options are kept.

    Args:
        config: Config of a ``HexPlaneDiffusion`` with a ``vae``.
        checkpoint: Its weights.
        out_dir: Folder for the clips.
        vae_checkpoint: Weights of the VAE. Defaults to None (those in ``checkpoint``).
        num_samples: Clips to make. Defaults to 16.
        num_windows: Windows of each, joined. Defaults to 1.
        overlap: Frames that windows share. Defaults to the model's.
        command: 0 static, 1 forward, 2 left, 3 right, -1 each in turn. Defaults to None.
        trajectory: npy file ``(F, 3)`` or ``(N, F, 3)``: x, y (metres), yaw (radians). Defaults
            to None.
        layouts: npz files with an array ``layout`` ``(F, h, w)``, taken in turn. Defaults to none.
        inpaint: npz file with an array ``voxels`` ``(T, X, Y, Z)`` to change within ``region``.
            Defaults to None.
        region: Box ``(x0, y0, x1, y1)`` in voxels, over all heights. Goes with ``inpaint``.
        frames: First frame to inpaint and the one after the last. Defaults to all.
        repaint: Length and number of resampling jumps of the inpainting. Defaults to none.
        guidance_scale: Weight of the guidance. Defaults to the config's.
        sampler: ``ddpm``, ``ddim`` or ``dpm++``. Defaults to the config's.
        steps: Sampling steps. Goes with ``sampler``.
        seed: Of the first clip. Defaults to 0.
        batch_size: Clips at once. Defaults to 1.
        device: Defaults to ``cuda`` where there is one, else ``cpu``.
        raw: Also write the bytes of each frame, below a folder per clip. Defaults to False.
        show: Also write a film and an interactive page of each clip. Defaults to False.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        ``NNNNN.npz`` of every clip, with arrays ``voxels`` uint8 ``(F, X, Y, Z)`` and ``meta``
        (JSON); pictures lie beside.

    Raises:
        UserError: If the folder holds clips of other weights or options; or if clips fail (a
            layout that cannot be read), once the others are written.
        ValueError: If arguments that go together do not come together, or a file lacks an array.
    """
    arguments = {name: value for name, value in locals().items() if name not in _NO_CONTENT}
    for pair in ({"region": region, "inpaint": inpaint}, {"sampler": sampler, "steps": steps}):
        if len({value is None for value in pair.values()}) > 1:
            alone = next(name for name, value in pair.items() if value is not None)
            raise ValueError(f"expected {' and '.join(pair)} together, got {alone} alone")
    generator = OccupancyGenerator(
        load_config(config, cfg_options),
        checkpoint,
        vae_checkpoint,
        device,
        None if sampler is None else {"type": _SAMPLERS[sampler], "spacing": steps},
        show_progress=False,
    )
    options: dict = {"guidance_scale": guidance_scale, "overlap": overlap}
    if inpaint is not None and region is not None:
        known = read_array(inpaint, "voxels")
        hole = torch.zeros(known.shape, dtype=torch.bool)
        x0, y0, x1, y1 = region
        hole[slice(*frames) if frames else slice(None), x0:x1, y0:y1] = True
        schedule = RepaintSchedule(*repaint) if repaint else None
        options |= {"clips": known, "region": hole, "schedule": schedule}
    out_dir = Path(out_dir)
    keep_made_alike(
        out_dir,
        {
            **arguments,
            "weights": tensors_digest(generator.model.state_dict()),
            "trajectory": file_digest(trajectory),
            "inpaint": file_digest(inpaint),
            "layouts": [file_digest(file) for file in layouts],
            "config": generator.cfg.model.to_dict(),
        },
        {f"{index:05d}.npz": () for index in range(num_samples)},
    )
    paths = [out_dir / f"{index:05d}.npz" for index in range(num_samples)]
    poses = None if trajectory is None else read_array(trajectory, "trajectory")
    failures = ItemFailures("batches of clips")
    with Progress() as progress:
        task = progress.add_task("clips", total=num_samples)
        for start in range(0, num_samples, batch_size):
            indices = range(start, min(start + batch_size, num_samples))
            if all(paths[i].is_file() for i in indices):
                progress.advance(task, len(indices))
                continue
            options |= {
                "seed": seed + start,
                "command": [i % 4 for i in indices] if command == -1 else command,
                "trajectory": poses,
                "layout": None,
            }
            with failures.item(f"clips from {start}"):
                if layouts:
                    grids = [read_array(layouts[i % len(layouts)], "layout") for i in indices]
                    options["layout"] = torch.stack(grids)
                if poses is not None and poses.dim() == 3:
                    options["trajectory"] = poses[[i % len(poses) for i in indices]]
                clips = generator(len(indices), num_windows, **options).labels.numpy()
                for index, clip in zip(indices, clips):
                    meta = {"seed": seed + start, "index": index, "command": command}
                    _write_clip(paths[index], clip, meta, raw, show)
            progress.advance(task, len(indices))
    failures.check()
    return paths


def _write_clip(path: Path, voxels: np.ndarray, meta: dict, raw: bool, show: bool) -> None:
    """Write a clip ``(F, X, Y, Z)`` and what stands beside it."""
    write_clip_pictures(voxels, path.with_suffix(""))
    if show:
        title = f"clip {meta['index']}"
        write_occupancy_page(path.with_suffix(".html"), {"generated": voxels}, title=title)
        grid = VoxelGrid(torch.from_numpy(voxels), origin=torch.zeros(3), voxel_size=1.0)
        camera = grid_camera(grid, "oblique", _FILM_SIZE)
        film = (splat_occupancy(frame, camera, size=_FILM_SIZE) for frame in grid)
        write_video(path.with_suffix(".mp4"), film, fps=10)
    if raw:
        for number, frame in enumerate(voxels):
            with atomic_path(path.with_suffix("") / f"{number:06d}.npy") as temporary:
                frame.astype(np.uint8).tofile(temporary)
    # Last, since it stands for all.
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, voxels=voxels, meta=to_json(meta))
