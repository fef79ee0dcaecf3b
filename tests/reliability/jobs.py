"""Commands that write, each with what it needs and what may lie there from an earlier run."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
import trimesh

from mmcity.apis import StreamWriter, convert_checkpoint, localize_queries
from mmcity.apis.occupancy.generate_clips import generate_clips
from mmcity.apis.streaming.depth_estimators import ToytownDepthEstimator
from mmcity.cli.main import dispatch
from mmcity.datasets import CarlaSCOccSequence
from mmcity.engine.dynamiccity import export_rollouts
from mmcity.engine.hooks import DumpResultHook
from mmcity.engine.launch import train
from mmcity.models.dynamiccity import HexPlaneVAE
from mmcity.registry import MODELS
from mmcity.structures import OccupancyDataSample, VoxelGrid, write_gaussians
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_citygsx, write_nuscenes
from mmcity.utils.fileio import atomic_path, write_text
from mmcity.visualization import write_image, write_video
from mmcity.visualization.voxel_tiles import write_voxel_tileset
from mmcity.workflow import STAGES
from mmcity.workflow.chain import Chain, Stage
from tests.apis.localization.test_queries import StubLocalizer
from tests.apis.streaming.test_stream_writer import frame
from tests.cli.conftest import TOY_CONFIG
from tests.datasets.scenes import make_model, write_scene, write_transforms
from tests.datasets.test_occ_sequence import GRID, write_carlasc
from tests.engine.test_occupancy_dumps import fake_runner
from tests.models.dynamiccity.test_sampling import build_model
from tests.structures.test_gaussian_lod import street


@dataclass(frozen=True)
class Job:
    """A command under attack.

    Attributes:
        run: Called with the inputs and the folder to write to.
        earlier: Writes what an earlier run with other inputs has left there. None: nothing.
        swap: How earlier files are replaced: ``each`` for itself, all ``together`` unless a run
            is killed, or all ``at once`` whatever happens.
        is_slow: Not in the short form.
    """

    run: Callable[[SimpleNamespace, Path], object]
    earlier: Callable[[SimpleNamespace, Path], object] | None = None
    swap: str = "at once"
    is_slow: bool = False


def prepare(root: Path) -> SimpleNamespace:
    """Inputs of all jobs; no gradients, so that processes can be forked afterwards."""
    torch.manual_seed(0)
    write_gaussians(street(1500), root / "a.ply")
    write_gaussians(street(900, seed=1), root / "b.ply")
    trimesh.creation.icosphere().export(root / "mesh.ply")
    trimesh.creation.box().export(root / "box.ply")
    write_scene(root / "scene", names=["a/0.png", "a/1.png", "b/2.png"])
    write_scene(root / "other", names=["0.png", "1.png"], points=9)
    write_transforms(root / "nerfstudio", make_model(count=3))
    write_carlasc(root / "carlasc", "Train", "Town01", 5)
    depths = root / "gt" / "depths"
    depths.mkdir(parents=True)
    for name in ("a/0", "a/1", "b/2"):
        np.save(depths / f"{Path(name).name}.npy", np.full((30, 40), 7.0, np.float32))
    sizes = dict(
        latent_channels=4,
        query_channels=4,
        conv_hidden_low_res=4,
        conv_hidden_high_res=4,
        transformer_depth=1,
    )
    vae = HexPlaneVAE(spatial_size=GRID, sequence_length=4, **sizes)
    generator = build_model()
    (root / "generator.py").write_text(f"default_scope = 'mmcity'\nmodel = {generator!r}\n")
    weights = {"state_dict": MODELS.build(generator).state_dict(), "meta": {}}
    torch.save(weights, root / "generator.pth")
    published = (root / "generator.pth", root / "published.pth")
    convert_checkpoint("dynamiccity", *published, reverse=True, config=root / "generator.py")
    town = ToytownConfig(seed=3)
    write_citygsx(root / "town", town, (48, 36), num_images=6, num_points=60)
    options = dict(num_scenes=2, num_frames=1, sweeps=False)
    write_nuscenes(root / "nuscenes", town, (40, 24), **options)
    return SimpleNamespace(root=root, vae=vae)


class First(Stage):
    """Three files."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, context):
        for number in range(3):
            with atomic_path(context.folder / f"{number}.txt") as path:
                path.write_bytes(f"{number} {self.text}\n".encode() * 50)
        return {"text": context.folder / "2.txt"}


class Second(Stage):
    """Takes one of them."""

    needs = ("first",)

    def run(self, context):
        text = context.artefact("first", "text").read_text()
        write_text(context.folder / "twice.txt", 2 * text)
        return {"twice": context.folder / "twice.txt"}


STAGES.register_module(name="ReliabilityFirst", module=First)
STAGES.register_module(name="ReliabilitySecond", module=Second)


def chain(out: Path, text: str) -> None:
    first = dict(type="ReliabilityFirst", text=text)
    Chain({"first": first, "second": dict(type="ReliabilitySecond")}, out / "chain").run()


def export(suffix: str) -> Job:
    def run(i, out, source="a.ply"):
        dispatch(["export", str(i.root / source), str(out / f"scene{suffix}")])

    return Job(run, lambda i, out: run(i, out, "b.ply"))


def mesh(suffix: str) -> Job:
    def run(i, out, source="mesh.ply"):
        dispatch(["export", str(i.root / source), str(out / f"mesh{suffix}")])

    return Job(run, lambda i, out: run(i, out, "box.ply"))


def tiles(i, out: Path, source: str = "a.ply") -> None:
    dispatch(["export", str(i.root / source), str(out / "tiles"), "--max-per-cell", "400"])


def sog(name: str) -> Job:
    """A folder of SOG, which its index names."""

    def run(i, out, source="a.ply"):
        dispatch(["export", str(i.root / source), str(out / "sog" / name)])

    return Job(run, lambda i, out: run(i, out, "b.ply"), "together")


def voxels(i, out: Path, label: int = 3) -> None:
    labels = torch.zeros(6, 5, 4, dtype=torch.uint8)
    labels[:, :, label] = label
    write_voxel_tileset(VoxelGrid(labels, origin=torch.zeros(3), voxel_size=0.4), out / "voxels")


def transforms(i, out: Path, source: str = "scene") -> None:
    dispatch(["export", str(i.root / source), str(out / "transforms.json")])


def colmap(i, out: Path) -> None:
    dispatch(["export", str(i.root / "nerfstudio"), str(out / "sparse")])


def reduce(i, out: Path) -> None:
    words = ["data", "reduce-colmap", str(i.root / "scene"), str(out / "small")]
    dispatch([*words, "--long-side", "20"])


def rollouts(i, out: Path) -> None:
    data = CarlaSCOccSequence(str(i.root / "carlasc"), "Train", sequence_length=4)
    export_rollouts(i.vae, data, out / "rollouts", flips=(0, 1))


def clips(i, out: Path) -> None:
    files = (i.root / "generator.py", i.root / "generator.pth")
    generate_clips(*files, out / "clips", num_samples=2, sampler="ddim", steps=1, device="cpu")


def depths(i, out: Path) -> None:
    ToytownDepthEstimator(i.root).write(i.root / "scene" / "images", out / "depths")


def stream(i, out: Path) -> None:
    with StreamWriter(out / "stream", formats=("ply", "glb")) as writer:
        for number in range(3):
            writer.write(frame(number))


def pictures(i, out: Path, seed: int = 0) -> None:
    frames = np.random.default_rng(seed).integers(0, 255, (3, 24, 32, 3), np.uint8)
    write_video(out / "film.gif", frames)
    write_image(out / "live.png", frames[0], is_live=True)
    write_image(out / "picture.png", frames[1])


def toytown(i, out: Path) -> None:
    words = ["data", "toytown", "--out", str(out / "town"), "--size", "tiny", "--workers", "1"]
    words += ["--formats", "video", "--sequences", "1", "--frames", "2", "--supersampling", "1"]
    dispatch([*words, "--image-size", "32x24"])


def link(source: Path, target: Path, *names: str) -> Path:
    """A folder with links to parts of another, for commands that write beside what they read."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if not (target / name).exists():
            (target / name).symlink_to(source / name)
    return target


def depth_masks(i, out: Path) -> None:
    parts = ("train/rgbs", "train/depths", "val", "sparse")
    scene = link(i.root / "town", out / "town", *parts)
    words = ["data", "filter-depth", str(scene), "--max-dis", "200", "--max-angle", "60"]
    dispatch([*words, "--max-error", "4"])


def infos(i, out: Path) -> None:
    folder = link(i.root / "nuscenes", out / "nuscenes", "v1.0-mini", "samples")
    dispatch(["data", "nuscenes", str(folder), "--version", "v1.0-mini"])


def convert(i, out: Path) -> None:
    words = ["convert-checkpoint", "dynamiccity", str(i.root / "published.pth")]
    dispatch([*words, str(out / "ours.pth"), "--config", str(i.root / "generator.py")])


def localize(i, out: Path) -> None:
    stub = {"build_localizer": lambda **parts: StubLocalizer()}
    with mock.patch.dict(localize_queries.__globals__, stub):
        queries = i.root / "scene" / "images"
        localize_queries(i.root, out / "poses", map="map.ply", queries=queries, pictures=False)


def dump(i, out: Path) -> None:
    keys = {"occ_pred": "pred_occupancy", "occ_gt": "gt_occupancy"}
    hook = DumpResultHook(out_dir=str(out / "dump"), keys=keys, name_keys=("sample_idx",))
    runner = fake_runner(out)
    hook.before_test(runner)
    for number in range(3):
        sample = OccupancyDataSample(metainfo={"sample_idx": number})
        sample.pred_occupancy = torch.full((4, 4, 2), number)
        sample.gt_occupancy = torch.zeros(4, 4, 2, dtype=torch.uint8)
        hook.after_test_iter(runner, number, outputs=[sample])
    hook.after_test(runner)


def training(i, out: Path) -> None:
    if str(TOY_CONFIG.parent) not in sys.path:  # where its own modules lie
        sys.path.insert(0, str(TOY_CONFIG.parent))
    checkpoint = {"max_keep_ckpts": 1, "interval": 2, "save_best": None}
    options = {f"default_hooks.checkpoint.{name}": value for name, value in checkpoint.items()}
    options |= {"train_cfg.max_iters": 6, "train_cfg.val_interval": 6}
    train(TOY_CONFIG, work_dir=out / "run", resume="auto", cfg_options=options)


JOBS: dict[str, Job] = {
    **{f"export {suffix}": export(suffix) for suffix in (".ply", ".splat", ".spz", ".glb")},
    **{f"mesh {suffix}": mesh(suffix) for suffix in (".ply", ".stl", ".glb")},
    "tiles": Job(tiles, lambda i, out: tiles(i, out, "b.ply")),
    "sog": sog("meta.json"),
    "streamed sog": sog("lod-meta.json"),
    "voxels": Job(voxels, lambda i, out: voxels(i, out, 1), "together"),
    "transforms": Job(transforms, lambda i, out: transforms(i, out, "other"), "together"),
    "colmap": Job(colmap),
    "reduce": Job(reduce),
    "rollouts": Job(rollouts),
    "clips": Job(clips, is_slow=True),
    "depths": Job(depths),
    "stream": Job(stream),
    "pictures": Job(pictures, lambda i, out: pictures(i, out, 1), "each"),
    "chain": Job(lambda i, out: chain(out, "new")),
    "toytown": Job(toytown),
    "depth masks": Job(depth_masks),
    "infos": Job(infos),
    "convert": Job(convert),
    "localize": Job(localize),
    "dump": Job(dump),
    "training": Job(training, is_slow=True),
}
