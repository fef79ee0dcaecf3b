"""A real scene and the toy town, reconstructed, scored and drawn."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from mmcity.apis.scenes import film_scene
from mmcity.engine.checkpointing import find_checkpoint
from mmcity.evaluation.functional import normal_errors
from mmcity.structures import read_gaussians
from mmcity.utils.cli import UserError, find_root
from mmcity.utils.fileio import read_json, visible
from mmcity.visualization import draw_results


def run_demo(
    scene: str | os.PathLike | None = None,
    out: str | os.PathLike = "outputs/demo",
    max_iters: int | None = None,
    toytown: bool = True,
) -> list[dict[str, object]]:
    """Train, test and draw a scene and the toy town, with the commands that a user would type.

    Args:
        scene: Folder of a COLMAP scene. Defaults to the drone flight of the source tree.
        out: Folder for the results.
        max_iters: Number of iterations, with which schedules are scaled. Defaults to None: as the
            configs say.
        toytown: Reconstruct the toy town too. Defaults to True.

    Returns:
        One row of figures per scene.

    Raises:
        UserError: If there is no such scene, or a command fails.
    """
    scene = Path(scene or find_root() / "demo" / "data" / "caliterra_aerial").resolve()
    out = Path(out).resolve()
    if not scene.is_dir():
        raise UserError(
            f"{scene}: expected a folder with a COLMAP scene, got none: give one with --scene (the "
            "one that comes lies in the source tree), or make one of pictures or a film with "
            "`mmcity reconstruct`"
        )
    rows = [_reconstruct(scene, scene.name, "3dgs_colmap_cpu", out, max_iters)]
    if toytown:
        town = out / "toytown" / "citygsx"
        _run(*"data toytown --formats citygsx --size tiny --out".split(), town.parent)
        rows.append(_reconstruct(town, "toytown", "3dgs_toytown_cpu", out, max_iters))
        rows[-1].update(_geometry_errors(out / "3dgs_toytown_cpu" / "results", town / "gt"))
    return rows


def _run(*words: object) -> None:
    """Run ``mmcity VERB ...`` with this Python and all cores, and print it."""
    command = [str(word) for word in words]
    print(f"\n$ mmcity {' '.join(command)}", flush=True)
    env = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), **os.environ}
    done = subprocess.run([sys.executable, "-m", "mmcity", *command], env=env, check=False)
    if done.returncode:
        raise UserError(f"the command above ended with status {done.returncode}")


def _reconstruct(
    scene: Path, name: str, config: str, out: Path, max_iters: int | None
) -> dict[str, object]:
    """Train, test and draw one scene; its row of figures."""
    folder = out / config
    options = ["--cfg-options", f"data_root={scene}"]
    shortened = ["--max-iters", max_iters] if max_iters else []
    start = time.time()
    _run("train", config, "--work-dir", folder, *options, *shortened)
    seconds = time.time() - start
    checkpoint = find_checkpoint(folder)
    results, numbers = folder / "results", folder / "test.json"
    for old in results.glob("*"):  # of an earlier demonstration
        old.unlink()
    files = ["--work-dir", folder / "test", "--dump", results, "--out", numbers]
    _run("test", config, checkpoint, *files, *options)
    draw_results(results, folder)
    film_scene(checkpoint, folder, config=config, frames=72, cfg_options={"data_root": str(scene)})
    scores = read_json(numbers)
    return {
        "scene": name,
        "test views": f"{scores['test/n_images']} of {scores['test/size']}",
        "PSNR": f"{scores['test/psnr']:.2f} dB",
        "SSIM": f"{scores['test/ssim']:.3f}",
        "Gaussians": len(read_gaussians(folder / "scene.ply")),
        "training": f"{seconds:.0f} s",
    }


def _geometry_errors(results: Path, truth: Path) -> dict[str, object]:
    """Depth and normal errors of the test views against the toy town's exact geometry."""
    depth_errors, pred_normals, true_normals = [], [], []
    for file in visible(sorted(results.glob("*.npz"))):
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
