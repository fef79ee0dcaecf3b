"""Generate 4D occupancy: ``python tools/generate.py CONFIG CHECKPOINT --out DIR``."""

import argparse
import json
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Generate clips of semantic occupancy")
    parser.add_argument("config", help="config of a HexPlaneDiffusion with a vae")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("--vae-checkpoint", help="weights of the VAE, if not in the checkpoint")
    parser.add_argument("--out", required=True, help="folder for the clips")
    parser.add_argument("-n", "--num-samples", type=int, default=16)
    parser.add_argument("-l", "--num-windows", type=int, default=1, help="windows per sample")
    parser.add_argument("--overlap", type=int, help="frames shared by windows; default: model's")
    parser.add_argument("--command", type=int, help="0 static, 1 forward, 2 left, 3 right; -1 all")
    parser.add_argument("--trajectory", help="npy file, (F, 3) or (N, F, 3): x, y, yaw")
    parser.add_argument("--layout", nargs="+", help="npz files, 'layout' (frames, h, w)")
    parser.add_argument("--inpaint", help="npz file with 'voxels' (T, X, Y, Z) to change")
    parser.add_argument(
        "--region",
        type=int,
        nargs=4,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="voxel box that --inpaint replaces (all z, all frames unless --frames)",
    )
    parser.add_argument("--frames", type=int, nargs=2, metavar=("FIRST", "END"))
    parser.add_argument("--repaint", type=int, nargs=2, metavar=("JUMP_LENGTH", "JUMP_N"))
    parser.add_argument("--cfg-scale", type=float, help="guidance scale; default: the config's")
    parser.add_argument("--sampler", choices=["ddpm", "ddim", "dpm++"], help="default: config's")
    parser.add_argument("--steps", type=int, help="sampling steps, with --sampler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--raw", action="store_true", help="also write raw bytes, one per frame")
    parser.add_argument(
        "--show", action="store_true", help="also write a film (mp4) and an interactive page each"
    )
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    if args.region and not args.inpaint:
        parser.error("--region goes with --inpaint")
    if args.inpaint and not args.region:
        parser.error("--inpaint needs --region")
    if (args.steps is None) != (args.sampler is None):
        parser.error("--sampler and --steps go together")
    return args


def sampler_config(name: str | None, steps: int | None) -> dict | None:
    """Sampler config of the command line's choice."""
    if name is None:
        return None
    if name == "ddpm":
        return {"type": "AncestralSampler", "spacing": steps}
    if name == "ddim":
        return {"type": "DDIMSampler", "spacing": steps}
    return {"type": "DPMSolverSampler", "spacing": steps}


def load_clip(path: str):
    """Labels ``(1, T, X, Y, Z)`` of an npz file with an array ``voxels``."""
    import numpy as np
    import torch

    with np.load(path) as data:
        if "voxels" not in data:
            raise ValueError(f"{path}: no array 'voxels', got {data.files}")
        return torch.from_numpy(data["voxels"])[None]


def write_clip(folder: Path, index: int, voxels, meta: dict, raw: bool, show: bool = False) -> None:
    """Write ``<index>.npz`` (voxels, meta) and pictures.

    With ``raw`` also one file of bytes per frame, with ``show`` a film and a page.
    """
    import numpy as np

    from mmcity.utils.fileio import atomic_path
    from mmcity.visualization.occupancy import write_clip_pictures

    voxels = voxels.cpu().numpy()
    path = folder / f"{index:05d}.npz"
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, voxels=voxels, meta=json.dumps(meta))
    write_clip_pictures(voxels, folder / f"{index:05d}")
    if show:
        from mmcity.visualization import write_video
        from mmcity.visualization.occupancy_page import write_occupancy_page
        from mmcity.visualization.occupancy_splats import grid_camera, splat_occupancy

        write_occupancy_page(
            folder / f"{index:05d}.html", {"generated": voxels}, title=f"clip {index}"
        )
        size = (320, 480)
        camera = grid_camera(voxels.shape[1:], "oblique", size)
        film = (splat_occupancy(frame, camera, size=size) for frame in voxels)
        write_video(folder / f"{index:05d}.mp4", film, fps=10)
    if raw:
        for t, frame in enumerate(voxels):
            with atomic_path(folder / f"{index:05d}" / f"{t:06d}.npy") as temporary:
                frame.astype(np.uint8).tofile(temporary)


def main(argv: list[str] | None = None) -> None:
    """Generate, continue or inpaint."""
    args = parse_args(argv)

    import numpy as np
    import torch
    from rich.progress import Progress

    from mmcity.apis import OccupancyGenerator
    from mmcity.engine.config_options import parse_options
    from mmcity.engine.launch import load_config
    from mmcity.models.dynamiccity.inpainting import RepaintSchedule

    generator = OccupancyGenerator(
        load_config(args.config, parse_options(args.cfg_options)),
        args.checkpoint,
        args.vae_checkpoint,
        args.device,
        sampler_config(args.sampler, args.steps),
    )
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    trajectory = None if args.trajectory is None else torch.from_numpy(np.load(args.trajectory))
    with Progress() as progress:
        task = progress.add_task("clips", total=args.num_samples)
        for start in range(0, args.num_samples, args.batch_size):
            indices = list(range(start, min(start + args.batch_size, args.num_samples)))
            if all((folder / f"{i:05d}.npz").is_file() for i in indices):
                progress.advance(task, len(indices))
                continue
            options = {"guidance_scale": args.cfg_scale, "seed": args.seed + start}
            command = args.command
            if command == -1:
                command = torch.tensor([i % 4 for i in indices])
            layout = None
            if args.layout:
                files = [args.layout[i % len(args.layout)] for i in indices]
                layout = torch.stack([torch.from_numpy(np.load(f)["layout"]) for f in files])
            poses = trajectory
            if trajectory is not None and trajectory.dim() == 3:
                poses = trajectory[[i % len(trajectory) for i in indices]]
            conditions = {"command": command, "trajectory": poses, "layout": layout}
            if args.inpaint:
                clip = load_clip(args.inpaint).expand(len(indices), -1, -1, -1, -1)
                region = torch.zeros(clip.shape[1:], dtype=torch.bool)
                x0, y0, x1, y1 = args.region
                first, end = args.frames or (0, clip.shape[1])
                region[first:end, x0:x1, y0:y1] = True
                schedule = RepaintSchedule(*args.repaint) if args.repaint else None
                voxels = generator.inpaint(clip, region, schedule=schedule, **conditions, **options)
            elif args.num_windows > 1:
                voxels = generator.generate_long(
                    args.num_windows, len(indices), args.overlap, **conditions, **options
                )
            else:
                voxels = generator.generate(len(indices), **conditions, **options)
            for index, clip in zip(indices, voxels):
                meta = {"seed": args.seed + start, "index": index, "command": args.command}
                write_clip(folder, index, clip, meta, args.raw, args.show)
                progress.advance(task)


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
