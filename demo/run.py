"""The main job on real input, then on the toy town: ``make demo [SCENE=PATH]``.

Runs the commands that a user would type (they are printed), then shows a table.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
CONFIGS = REPO / "configs" / "gaussian_splatting"
DEFAULT_SCENE = REPO / "demo" / "data" / "caliterra_aerial"


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Reconstruct a real scene and the toy town")
    parser.add_argument("--scene", type=Path, default=DEFAULT_SCENE, help="any COLMAP folder")
    parser.add_argument("--out", type=Path, default=REPO / "outputs" / "demo", help="results")
    parser.add_argument("--no-toytown", action="store_true", help="only the scene")
    parser.add_argument(
        "--max-iters", type=int, help="stop after so many iterations (for a quick look)"
    )
    return parser.parse_args()


def main() -> None:
    """Run the demo."""
    args = parse_args()
    if not args.scene.is_dir():
        raise SystemExit(f"error: {args.scene} is not a folder; expected a COLMAP scene")
    start = time.time()
    rows = [reconstruct(args.scene.resolve(), "3dgs_colmap_cpu", args)]
    if not args.no_toytown:
        town = args.out / "toytown" / "citygsx"
        run(
            "tools/dataset_converters/create_toytown.py",
            *("--out", args.out / "toytown", "--formats", "citygsx", "--size", "tiny"),
        )
        rows.append(reconstruct(town, "3dgs_toytown_cpu", args))
        rows[-1].update(geometry_errors(args.out / "3dgs_toytown_cpu" / "results", town / "gt"))
    print_table(rows)
    print(f"\nPictures, films and PLY files: {args.out}")
    print(f"The demo took {time.time() - start:.0f} s.")


def run(*command: object) -> None:
    """Run one of the toolbox's commands with this Python, and print it."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    # Log lines of libraries would bury the story; errors still come through.
    done = subprocess.run([sys.executable, *words], cwd=REPO, env=environment(), check=False)
    if done.returncode:
        raise SystemExit(f"error: the command above ended with status {done.returncode}")


def environment() -> dict[str, str]:
    """Environment of the commands: all cores of the machine for the operators."""
    env = dict(os.environ)
    env.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    return env


def reconstruct(scene: Path, config: str, args: argparse.Namespace) -> dict[str, object]:
    """Train, test and draw one scene; returns its row of the table."""
    out = args.out / config
    options = ["--cfg-options", f"data_root={scene}"]
    shortened = [f"train_cfg.max_iters={args.max_iters}"] if args.max_iters else []
    config_file = CONFIGS / f"{config}.py"
    start = time.time()
    run("tools/train.py", config_file, "--work-dir", out, *options, *shortened)
    seconds = time.time() - start
    checkpoint = (out / "last_checkpoint").read_text().strip()
    results, numbers = out / "results", out / "test.json"
    for old in results.glob("*"):  # of an earlier demo
        old.unlink()
    run(
        "tools/test.py", config_file, checkpoint, "--work-dir", out / "test",
        "--dump", results, "--out", numbers, *options,
    )  # fmt: skip
    run("tools/visualize.py", results, "--out", out)
    run("tools/visualize.py", config_file, checkpoint, "--out", out, "--frames", 72, *options)
    scores = json.loads(numbers.read_text())
    return {
        "scene": scene.name if config != "3dgs_toytown_cpu" else "toytown",
        "test views": f"{scores['test/n_images']} of {scores['test/size']}",
        "PSNR": f"{scores['test/psnr']:.2f} dB",
        "SSIM": f"{scores['test/ssim']:.3f}",
        "Gaussians": count_gaussians(out / "scene.ply"),
        "training": f"{seconds:.0f} s",
    }


def count_gaussians(ply: Path) -> int:
    """Number of vertices in the head of a PLY file."""
    with ply.open("rb") as file:
        for line in file:
            if line.startswith(b"element vertex"):
                return int(line.split()[-1])
    raise ValueError(f"{ply} has no vertices")


def geometry_errors(results: Path, truth: Path) -> dict[str, str]:
    """Depth and normal errors of the test views against the toy town's exact geometry."""
    import numpy as np
    import torch

    from mmcity.evaluation.functional import normal_errors

    depth_errors, pred_normals, true_normals = [], [], []
    for file in sorted(results.glob("*.npz")):
        with np.load(file, allow_pickle=False) as data:
            depth, normal = data["pred_depth"], data["pred_normal"]  # (H, W), (3, H, W)
            solid, viewmat = data["pred_alpha"] > 0.5, data["camera.viewmats"][0]
        true_depth = np.load(truth / "depths" / f"{file.stem}.npy")
        true_normal = np.load(truth / "normals" / f"{file.stem}.npy").astype(np.float64)
        valid = (true_depth > 0) & solid & (np.linalg.norm(normal, axis=0) > 0.5)
        depth_errors.append(np.abs(depth - true_depth)[valid])
        pred_normals.append(normal.transpose(1, 2, 0)[valid] @ viewmat[:3, :3])  # to the world
        true_normals.append(true_normal[valid])
    angles = normal_errors(
        torch.tensor(np.concatenate(pred_normals)), torch.tensor(np.concatenate(true_normals))
    )
    return {
        "median depth error": f"{np.median(np.concatenate(depth_errors)):.2f} m",
        "median normal error": f"{angles['median']:.0f} deg",
    }


def print_table(rows: list[dict[str, object]]) -> None:
    """Print rows under the union of their names."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([str(row.get(name, "-")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    print()
    for number, line in enumerate(cells):
        print(" | ".join(text.ljust(width) for text, width in zip(line, widths)))
        if number == 0:
            print("-|-".join("-" * width for width in widths))


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
