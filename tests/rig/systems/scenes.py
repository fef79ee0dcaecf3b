"""Jobs of scenes on the virtual device, the same for each kind of scene."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from virtual_cuda import Record

from mmcity.apis import SceneRenderer
from mmcity.apis.scenes import (
    export_scene,
    extract_mesh,
    film_scene,
    read_layers,
    render_ortho,
    render_views,
)
from mmcity.engine import launch
from mmcity.engine.checkpointing import load_from_local, merge_shards
from mmcity.engine.loops import ResumableIterBasedTrainLoop
from mmcity.structures import read_gaussians_ply
from tests.rig import harness

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
STEPS = 4


def state_of(path: Path) -> dict[str, torch.Tensor]:
    """State dict of a checkpoint, whole or in parts, on the CPU."""
    checkpoint = merge_shards(load_from_local(path, map_location="cpu"), path.parent)
    return checkpoint["state_dict"]


def assert_finite(path: Path) -> None:
    for name, value in state_of(path).items():
        assert not value.is_floating_point() or value.isfinite().all(), name


class SceneJobs:
    """Tests of a config; a subclass names it, and what makes its trainings short."""

    config: str
    #: Options under which growth happens within few steps, and all losses count.
    options: dict = {}
    #: More of them for a training by two processes.
    shared: dict = {}
    #: Its further arguments.
    arguments: tuple[str, ...] = ()
    #: Options under which statistics for growth are kept, but nothing grows.
    without_growth: dict = {}
    #: Most waits of the host in a training iteration with all losses.
    waits: int

    @classmethod
    def settings(cls, town, steps=STEPS, **more):
        """Options of a short training on the tiny town."""
        data = {f"{loader}.dataset.data_root": str(town) for loader in LOADERS}
        workers = {f"{loader}.num_workers": 0 for loader in LOADERS}
        workers |= {f"{loader}.persistent_workers": False for loader in LOADERS}
        steps = {"train_cfg.max_iters": steps, "train_cfg.val_interval": STEPS}
        steps |= {"default_hooks.checkpoint.interval": STEPS // 2}
        return {**data, **workers, **steps, **cls.options, **more}

    @classmethod
    def train(cls, town, work_dir, resume=None, amp=False, **more):
        """Last checkpoint of a training in this process."""
        more = {"experiment_name": f"{work_dir.parent.name}_{work_dir.name}", **more}
        return launch.train(
            harness.REPO / cls.config, work_dir=work_dir, resume=resume, amp=amp,
            cfg_options=cls.settings(town, **more),
        )  # fmt: skip

    @pytest.fixture(scope="class", params=["fp32", "amp"])
    @classmethod
    def trained(cls, request, toytown_citygsx, tmp_path_factory):
        """Work folder of a training, and whether it was one in mixed precision."""
        work_dir = tmp_path_factory.mktemp("trained") / request.param
        amp = request.param == "amp"
        torch.cuda.reset_peak_memory_stats()
        cls.train(toytown_citygsx, work_dir, amp=amp)
        assert torch.cuda.max_memory_allocated() > 2**20
        return work_dir, amp

    def test_a_training_resumes_bit_for_bit(self, trained, toytown_citygsx, tmp_path):
        work_dir, amp = trained
        assert_finite(work_dir / f"iter_{STEPS}.pth")
        assert (work_dir / "scene.ply").is_file()
        half = str(work_dir / f"iter_{STEPS // 2}.pth")
        again = self.train(toytown_citygsx, tmp_path / "again", resume=half, amp=amp)
        ours, theirs = state_of(again), state_of(work_dir / f"iter_{STEPS}.pth")
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name

    def test_a_checkpoint_predicts(self, trained, toytown_citygsx, tmp_path):
        work_dir, amp = trained
        metrics = launch.test(
            harness.REPO / self.config, work_dir / f"iter_{STEPS}.pth", work_dir=tmp_path,
            amp=amp, dump=tmp_path / "dump", cfg_options=self.settings(toytown_citygsx),
        )  # fmt: skip
        assert np.isfinite(metrics["test/psnr"]) and list((tmp_path / "dump").rglob("*.npz"))

    @pytest.mark.parametrize("trained", ["fp32"], indirect=True)
    def test_tools_run_on_the_device(self, trained, toytown_citygsx, tmp_path):
        work_dir, _ = trained
        config = launch.load_config(harness.REPO / self.config, self.settings(toytown_citygsx))
        checkpoint = work_dir / f"iter_{STEPS}.pth"
        renderer = SceneRenderer(config, checkpoint, show_progress=False)
        assert renderer.device.type == "cuda"
        views = renderer(renderer.training_cameras[:2])
        assert len(renderer.visualize(views)) == 2 and views.rgb[0].std() > 0
        job = dict(config=harness.REPO / self.config, checkpoint=checkpoint)
        job["cfg_options"] = self.settings(toytown_citygsx)
        assert render_views(**job, out=tmp_path / "views")["test"]
        mesh = extract_mesh(
            **job, out=tmp_path / "mesh.ply", voxel_size=2.0, min_alpha=0.1, min_triangles=1
        )
        assert mesh.triangles > 0
        baked = export_scene(checkpoint, tmp_path / "baked.ply", config=job["config"])
        assert len(read_gaussians_ply(baked.path)) == baked.contents["Gaussians"]
        film = film_scene(
            checkpoint, tmp_path / "film", config=job["config"], frames=2, format="gif",
            long_side=48, cfg_options=job["cfg_options"],
        )  # fmt: skip
        assert all(path.is_file() for path in film)
        above = render_ortho(baked.path, tmp_path / "ortho.tif", pixel_size=2.0)
        assert above.path.is_file() and above.heights.is_file()
        (layer,) = [x for x in read_layers([checkpoint], job["config"]) if x.kind == "gaussians"]
        assert layer.data.means.device.type == "cpu"  # what the viewer sends to browsers

    @pytest.mark.slow
    def test_two_devices_train_and_resume(self, toytown_citygsx, tmp_path):
        for steps in (STEPS // 2, STEPS):
            options = self.settings(toytown_citygsx, steps, **self.shared)
            resume = ["--resume", "auto"] if steps == STEPS else []
            harness.run(
                harness.REPO / "tools" / "train.py", harness.REPO / self.config,
                "--launcher", "pytorch", "--work-dir", tmp_path, *resume, *self.arguments,
                "--cfg-options", *(f"{key}={value}" for key, value in options.items()), devices=2,
            )  # fmt: skip
        assert_finite(tmp_path / f"iter_{STEPS}.pth")
        assert (tmp_path / "scene.ply").is_file()

    def test_host_waits(self, toytown_citygsx, tmp_path, monkeypatch):
        plain, records = ResumableIterBasedTrainLoop.run_iter, []

        def run_iter(loop, batch):
            with Record(within=("/mmcity/", "/ops/", "mmcity_ops")) as record:
                plain(loop, batch)
            records.append(record)

        monkeypatch.setattr(ResumableIterBasedTrainLoop, "run_iter", run_iter)
        never = {"default_hooks.checkpoint.interval": 1000, "train_cfg.val_interval": 1000}
        self.train(toytown_citygsx, tmp_path / "waits", **self.without_growth, **never)
        middle = records[1:-1]  # the last one ends the training
        waits = sum((record.waits for record in middle), Counter())
        assert sum(waits.values()) / len(middle) <= self.waits, waits.most_common()
