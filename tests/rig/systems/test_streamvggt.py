"""StreamVGGT and VGGT on the device: training, resuming, testing, streaming, two processes."""

import numpy as np
import pytest
import torch
import virtual_cuda
from mmengine.config import Config

from mmcity.apis import StreamingReconstructor
from mmcity.apis.streaming import generate_depth, stream_source
from mmcity.engine.launch import test as run_test
from mmcity.engine.launch import train
from tests.models.streamvggt.tiny import (
    SIZES,
    distillation_config,
    tiny_model,
    toytown_config,
    write_toytown_video,
)
from tests.rig.harness import record_training, run

POLICIES = (
    None, "full", "window(2)", "knn(2)", "chunk(3, 1)", "diversity(60)", "query(8)",
    "attention(8)",
)  # fmt: skip
CHUNKS = {"type": "ChunkPolicy", "num_frames": 2, "overlap": 1, "loop_closure": True,
          "loop_similarity": 0.1}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def teachers_of_random_numbers():
    """What a distillation costs does not depend on what its teacher knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMCITY_RANDOM_WEIGHTS", "1")
        yield


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Folder with the trainings at a size of seconds."""
    folder = tmp_path_factory.mktemp("streamvggt")
    write_toytown_video(folder / "video", ["000_drive", "001_walk", "002_orbit"])
    toytown_config(folder / "video").dump(folder / "toytown.py")
    for name in ("streamvggt_1b_distill", "streamvggt_1b_distill_fsdp", "vggt_1b_finetune"):
        distillation_config(folder / "video", name).dump(folder / f"{name}.py")
    return folder


def train_here(configs, name, work_dir, iters=4, **kwargs):
    """Checkpoint of a training in this process."""
    options = {
        "experiment_name": f"{work_dir.parent.name}_{work_dir.name}_{iters}",
        "train_cfg.max_iters": iters,
        "default_hooks.checkpoint.interval": 2,
    }
    last = train(configs / f"{name}.py", work_dir=work_dir, cfg_options=options, **kwargs)
    return torch.load(last, weights_only=True, map_location="cpu")


@pytest.fixture(scope="module")
def trained(configs):
    """Checkpoint of the toy training."""
    return train_here(configs, "toytown", configs / "run"), configs / "run" / "iter_4.pth"


@pytest.mark.parametrize(
    ("name", "amp"),
    [
        ("toytown", True),
        ("streamvggt_1b_distill", False),
        ("vggt_1b_finetune", False),
    ],
)
def test_train(name, amp, configs, tmp_path):
    state = train_here(configs, name, tmp_path / "run", iters=3, amp=amp)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_resume(configs, trained, tmp_path):
    """A run that is stopped before the student learns goes on to the same student."""
    middle = str(configs / "run" / "iter_2.pth")
    state = train_here(configs, "toytown", tmp_path / "run", resume=middle)["state_dict"]
    for name, expected in trained[0]["state_dict"].items():
        torch.testing.assert_close(state[name], expected, msg=name)


def test_test(configs, trained):
    metrics = run_test(configs / "toytown.py", trained[1], work_dir=configs / "test")
    assert 0 <= metrics["student/depth/Abs Rel"] < 10


@pytest.mark.parametrize("suite", ["video_depth", "monodepth", "mv_recon_7scenes", "pose_tum"])
def test_suites(suite, configs, tmp_path):
    """Evaluations frame by frame; depth, poses and points of the whole."""
    cfg = Config.fromfile(f"configs/streamvggt/eval_{suite}.py")
    test_set = Config.fromfile(configs / "toytown.py").test_dataloader.dataset
    cfg.test_dataloader.num_workers = 0
    cfg.test_dataloader["dataset"] = test_set
    if suite == "monodepth":
        cfg.test_dataloader.dataset.per_frame = True
    cfg.test_evaluator.pop("crop", None)
    if "out_dir" in cfg.test_evaluator:
        cfg.test_evaluator.out_dir = str(tmp_path / "results")
    cfg.model.update(SIZES)
    cfg.dump(tmp_path / "eval.py")
    metrics = run_test(tmp_path / "eval.py", work_dir=tmp_path, amp=suite == "pose_tum")
    assert metrics


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("toytown", ()),
        ("streamvggt_1b_distill", ("--amp",)),
        ("streamvggt_1b_distill_fsdp", ()),
        ("vggt_1b_finetune", ()),
    ],
)
def test_two_devices(name, options, configs, tmp_path):
    run(
        "tools/train.py", configs / f"{name}.py", "--work-dir", tmp_path, "--launcher", "pytorch",
        *options, devices=2, operators="cpu",
    )  # fmt: skip
    assert (tmp_path / "last_checkpoint").is_file()


def test_host_waits_of_distillation(configs, tmp_path):
    steps = record_training(configs / "streamvggt_1b_distill.py", tmp_path, operators="cpu")
    assert steps.waits <= 4, steps.table()


class TestStream:
    """Results on the device are those of the CPU, with one wait per frame."""

    FRAMES = np.random.default_rng(0).integers(0, 256, (6, 40, 60, 3), dtype=np.uint8)

    def reconstructor(self, device, track=False, **kwargs):
        return StreamingReconstructor(
            tiny_model(track=track), device=device, image_size=42, **kwargs
        )

    @pytest.mark.parametrize("policy", [*POLICIES, CHUNKS], ids=str)
    def test_policies(self, policy):
        found = self.reconstructor("cuda", policy=policy)(self.FRAMES)
        for a, b in zip(found, self.reconstructor("cpu", policy=policy)(self.FRAMES)):
            np.testing.assert_allclose(a.points, b.points, atol=1e-4, rtol=1e-3)
            np.testing.assert_allclose(a.cam_to_world, b.cam_to_world, atol=1e-4)

    @pytest.mark.parametrize("cache_dtype", ["bf16", "fp16", "fp8", "int8"])
    def test_cache_dtypes(self, cache_dtype):
        for policy in ("window(2)", "diversity(60)"):
            run = self.reconstructor("cuda", policy=policy, cache_dtype=cache_dtype, dtype="bf16")
            assert all(np.isfinite(frame.points).all() for frame in run(self.FRAMES))

    def test_tracks_and_rigs(self):
        run = self.reconstructor("cuda", track=True, policy="window(2)", use_proj=False)
        points = np.array([[4.0, 5.0], [20.0, 9.0]])
        assert [f.track.shape for f in run(self.FRAMES, query_points=points)] == [(2, 2)] * 6
        assert len(list(run.run_rig([self.FRAMES, self.FRAMES]))) == 12

    def test_session_state(self):
        run = self.reconstructor("cuda", policy="knn(2)")
        images = torch.stack([run.preprocess(frame) for frame in self.FRAMES]).cuda()
        session = run.model.stream(policy="knn(2)")
        for image in images[:4]:
            session.step(image)
        other = run.model.stream(policy="knn(2)")
        other.load_state_dict(session.state_dict(), "cuda")
        for image in images[4:]:
            torch.testing.assert_close(session.step(image)["depth"], other.step(image)["depth"])

    @pytest.mark.parametrize("policy", POLICIES)
    def test_waits_per_frame(self, policy):
        results = self.reconstructor("cuda", policy=policy)(self.FRAMES)
        for _ in range(4):  # the next one starts no chunk
            next(results)
        with virtual_cuda.Record(("mmcity/",)) as record:
            next(results)
        assert sum(record.waits.values()) <= 1, record.table()

    def test_to_a_folder(self, configs, trained, tmp_path):
        out = stream_source(
            [str(configs / "video" / "002_orbit" / "rgb")], tmp_path, config=configs / "toytown.py",
            checkpoint=trained[1], formats=("ply", "glb"), image_size=42,
        )  # fmt: skip
        assert {"trajectory.txt", "points.ply", "points.glb"} <= {f.name for f in out.iterdir()}

    def test_depth_priors(self, configs, trained, tmp_path):
        files = generate_depth(
            configs / "video", "streaming", weights=trained[1], config=configs / "toytown.py",
            image_dir="002_orbit/rgb", out=str(tmp_path), device="cuda",
        )  # fmt: skip
        assert len(files) == 6
