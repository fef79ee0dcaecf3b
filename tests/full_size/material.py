"""Data sets and files of other trainings, made once in a store and linked where configs look."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mmcity.cli.main import dispatch, run_command_line
from mmcity.engine.launch import load_config
from mmcity.miniature import write_miniature
from mmcity.registry import MODELS
from mmcity.utils.torch_files import write_torch

from . import stages
from .cases import CASES, REPO, Case

#: Options of the toy town by the folder of a format, smaller than those of the configs' comments.
_TOYTOWN = {
    "citygsx": ["--formats", "citygsx", "--num-images", "16", "--image-size", "160x120"],
    "colmap_loc": [
        *("--formats", "colmap_loc", "--mapping-images", "16", "--queries", "4"),
        *("--image-size", "80x60"),
    ],
    "carlasc": ["--formats", "carlasc", "--scenes", "6", "--frames", "8"],
    "nuscenes": [
        *("--formats", "nuscenes", "--scenes", "2", "--frames", "2", "--no-sweeps"),
        *("--image-size", "200x112", "--feature-patch", "4"),
    ],
    "video": [
        *("--formats", "video", "--image-size", "112x84", "--sequences", "2", "--frames", "10"),
        *("--paths", "surround", "--traffic", "0.05"),
    ],
}


class Material:
    """Store of what cases need.

    Args:
        root: Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Folder of the store, made if it is not there, by one process at a time."""
        folder = self.root / name
        with (self.root / f".{name.replace('/', '_')}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                half = self.root / f".{name.replace('/', '_')}.half"
                shutil.rmtree(half, ignore_errors=True)
                outcome = stages.run_apart(lambda: make(half), self.root, name.replace("/", "_"))
                if outcome.state != "passed":
                    raise RuntimeError(f"{name}: {outcome.reason}, see {self.root}")
                folder.parent.mkdir(parents=True, exist_ok=True)
                os.replace(half, folder)
        return folder

    def _town(self, kind: str, seed: int) -> Path:
        def make(out: Path) -> None:
            words = [*_TOYTOWN[kind], "--seed", str(seed), "--supersampling", "1"]
            dispatch(["data", "toytown", "--out", str(out), "--workers", "1", *words])
            if kind == "nuscenes":
                dispatch(["data", "nuscenes", str(out / kind), "--version", "v1.0-mini"])

        return self._once(f"toytown_{kind}_{seed}", make) / kind

    def _layout(self, layout: str) -> Path:
        def make(out: Path) -> None:
            write_miniature(layout, out)
            if layout == "nuscenes":
                dispatch(["data", "nuscenes", str(out), "--version", "v1.0-trainval"])

        return self._once(layout, make)

    def _rollouts(self, maker: str) -> Path:
        """Exported by a VAE with the weights that it begins with."""
        case = CASES[f"dynamiccity/{maker}"]

        def make(out: Path) -> None:
            self.place(case, out)
            os.chdir(out)
            cfg = load_config(case.path, case.settings)
            write_torch("vae.pth", {"state_dict": MODELS.build(cfg.model).state_dict()})
            words = [str(case.path), "vae.pth", "--out", "rollouts"]
            words += ["--splits", "train", *stages.words_of(case)[1:]]  # no --random-weights
            run_command_line("scripts", "export_rollouts", words, "export_rollouts")

        return self._once(f"rollouts/{maker}", make) / "rollouts"

    def _trained(self, case: Case) -> Path:
        """Work folder of a config that was trained for a step."""

        def make(out: Path) -> None:
            self.place(case, out)
            os.chdir(out)
            stages.train(case, steps=1)

        return self._once(f"made/{case.name.split('/')[1]}", make) / "work"

    def place(self, case: Case, folder: Path) -> None:
        """Link data, configs and files of other trainings into the working directory of a case."""
        folder.mkdir(parents=True, exist_ok=True)
        _link(REPO / "configs", folder / "configs")
        for target, layout in case.data.items():
            if layout == "rollouts":
                target, maker = str(Path(target).parent), Path(target).parts[-2]
                source = self._rollouts(maker.replace("toytown", "dynamiccity_vae_toytown_cpu"))
            elif layout == "real":
                data = os.environ.get("MMCITY_DATA", REPO.parent / "shared" / "data")
                source = Path(data).resolve() / Path(target).name
                if not source.is_dir():
                    raise FileNotFoundError(f"{source}: expected the capture (set MMCITY_DATA)")
            elif layout == "toytown":
                parts = Path(target).parts  # data/toytown/FORMAT, data/toytown_drives/townN/video
                kind = "video" if "drives" in parts[1] else parts[2]
                source = self._town(kind, 0)
                target = "/".join(parts[:4] if kind == "video" else parts[:3])
            elif layout == "nuscenes_maps":
                source = self._layout(layout) / Path(target).name
            else:
                source = self._layout(layout)
            _link(source, folder / target)
        for file in case.files:
            self._file(case, file, folder)

    def _file(self, case: Case, file: str, folder: Path) -> None:
        """A checkpoint or map that the config names."""
        maker = Path(file).parent.name
        known = {name.split("/")[1]: other for name, other in CASES.items()}
        if file.startswith("work_dirs/") and maker in known:
            other = known[maker]
        elif file.endswith(".ply"):
            other = known["3dgs_colmap"]
        else:
            return

        made = self._trained(other)
        source = made / "scene.ply" if file.endswith(".ply") else stages.checkpoint_in(made)
        _link(source, folder / file)


def _link(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source)
