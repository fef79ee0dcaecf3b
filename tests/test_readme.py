"""The README's Python is run as it stands, in a folder with data and weights where it names them.

The weights are random: what is tested is that a reader who copies an example gets an answer.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcity.apis import load_localizer
from mmcity.datasets.converters.nuscenes import convert_nuscenes
from mmcity.engine.launch import load_config
from mmcity.registry import MODELS
from mmcity.structures import Gaussians, write_gaussians
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_citygsx, write_nuscenes
from mmcity.utils import register_all_modules
from mmcity.visualization import write_video

REPO = Path(__file__).resolve().parent.parent
README = (REPO / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, flags=re.S | re.M)
TOWN = ToytownConfig(seed=3, blocks=(1, 1))


def prepare_scene(folder: Path) -> None:
    (folder / "demo").symlink_to(REPO / "demo")
    target = folder / "outputs" / "demo" / "3dgs_colmap_cpu" / "scene.ply"
    target.parent.mkdir(parents=True)
    splats = Gaussians(
        means=torch.randn(50, 3),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(50, 4),
        scales=torch.full((50, 3), 0.1),
        opacities=torch.full((50,), 0.9),
        sh0=torch.rand(50, 1, 3),
    )
    write_gaussians(splats, target)


def prepare_localizer(folder: Path) -> None:
    """A localiser that version 0.1 has stored, and two pictures of its town."""
    castle = folder / "castle"
    size = dict(image_size=(96, 72), num_images=8, num_points=400)
    write_citygsx(castle / "citygsx", TOWN, **size)
    stored = REPO / "tests" / "data" / "version_0_1"
    for file in ("user_3dgs.pth", "localizer.json"):
        shutil.copy(stored / file, castle)
    config = (stored / "user_3dgs.py").read_text().replace("../../..", str(REPO))
    (castle / "user_3dgs.py").write_text(config)
    (folder / "queries").mkdir()
    for picture in sorted((castle / "citygsx" / "train" / "rgbs").iterdir())[:2]:
        shutil.copy(picture, folder / "queries")
    assert load_localizer(castle / "localizer.json") is not None


def save_weights(config: str, file: Path, part: str | None = None) -> None:
    register_all_modules()
    torch.manual_seed(0)
    model = load_config(config).model
    model = model[part] if part else model
    if "vae" in model:  # its own file is not there
        model.vae.pop("init_cfg")
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": MODELS.build(model).state_dict(), "meta": {}}, file)


def prepare_occupancy(folder: Path) -> None:
    root = folder / "data" / "toytown" / "nuscenes"
    sizes = dict(num_scenes=2, num_frames=1, sweeps=False, feature_patch=4)
    write_nuscenes(root, TOWN, (200, 112), **sizes)
    convert_nuscenes(root, version="v1.0-mini")
    name = "gausstr_toytown_cpu"
    save_weights(name, folder / "work_dirs" / name / "iter_1200.pth")


def prepare_stream(folder: Path) -> None:
    name = "streamvggt_toytown_cpu"
    save_weights(name, folder / "work_dirs" / name / "iter_2600.pth", "student")
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    write_video(folder / "drive.mp4", frames)


def prepare_generator(folder: Path) -> None:
    name = "dynamiccity_dit_toytown_cpu"
    save_weights(name, folder / "work_dirs" / name / "iter_3500.pth")


CASES = {
    "SceneRenderer": (prepare_scene, []),
    "load_localizer": (prepare_localizer, ["0000"]),
    "OccupancyPredictor": (prepare_occupancy, ["200, 200, 16"]),
    "StreamingReconstructor": (prepare_stream, ["2 [", "(48, 64)"]),
    "OccupancyGenerator": (prepare_generator, ["2, 4, 32, 32, 8"]),
}


def test_every_inferencer_has_an_example():
    assert len(EXAMPLES) == len(CASES)
    assert all(any(name in example for example in EXAMPLES) for name in CASES)


def test_python_stands_on_the_first_screen():
    assert "```python" in "\n".join(README.splitlines()[:25])


@pytest.mark.parametrize("name", CASES)
def test_example_runs(name, tmp_path, monkeypatch, capsys):
    prepare, shown = CASES[name]
    (example,) = (text for text in EXAMPLES if name in text)
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    capsys.readouterr()

    exec(compile(example, f"README.md ({name})", "exec"), {})

    printed = capsys.readouterr().out
    assert all(text in printed for text in shown), printed
    pictures = re.findall(r'write_image\("([\w.]+)"', example)
    assert all((tmp_path / picture).stat().st_size for picture in pictures)
