"""Generate clips of semantic occupancy."""

import argparse

from mmcity.cli import flags

EXAMPLE = (
    "mmcity generate configs/dynamiccity/dynamiccity_dit_toytown_cpu.py work_dirs/dit/iter_2000.pth"
    " --vae-checkpoint work_dirs/vae/iter_1000.pth --out clips --command 1"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of generation."""
    parser.add_argument("config", help="config of a HexPlaneDiffusion with a vae")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("--vae-checkpoint", help="weights of the VAE, if not in the checkpoint")
    parser.add_argument("--out", dest="out_dir", required=True, help="folder for the clips")
    parser.add_argument("-n", "--num-samples", type=int, default=16)
    parser.add_argument("-l", "--num-windows", type=int, default=1, help="windows per sample")
    parser.add_argument("--overlap", type=int, help="frames shared by windows; default: model's")
    parser.add_argument("--command", type=int, help="0 static, 1 forward, 2 left, 3 right; -1 all")
    parser.add_argument("--trajectory", help="npy file, (F, 3) or (N, F, 3): x, y, yaw")
    parser.add_argument(
        "--layout", dest="layouts", nargs="+", default=[], help="npz files, 'layout' (frames, h, w)"
    )
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
    parser.add_argument(
        "--cfg-scale",
        dest="guidance_scale",
        type=float,
        help="guidance scale; default: the config's",
    )
    parser.add_argument("--sampler", choices=["ddpm", "ddim", "dpm++"], help="default: config's")
    parser.add_argument("--steps", type=int, help="sampling steps, with --sampler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=1)
    flags.add_device(parser)
    parser.add_argument("--raw", action="store_true", help="also write raw bytes, one per frame")
    parser.add_argument(
        "--show", action="store_true", help="also write a film (mp4) and an interactive page each"
    )
    flags.add_cfg_options(parser, "model.guidance_scale=2.0")


def run(args: argparse.Namespace) -> None:
    """Generate, continue or inpaint."""
    from mmcity.apis.occupancy.generate_clips import generate_clips

    generate_clips(**flags.function_arguments(args))
