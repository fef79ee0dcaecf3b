"""A model of a few thousand parameters in which every path is active, and its trainings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from mmcity.engine.launch import load_config
from mmcity.models.streamvggt import StreamVGGT
from tests.datasets.sequence_writers import Scene

REPO = Path(__file__).resolve().parents[3]

HEADS = {"features": 8, "out_channels": (4, 4, 8, 8), "layers": (0, 1, 1, 2)}
SIZES = {
    "aggregator": {
        "img_size": 42,
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "num_register_tokens": 2,
        "patch_embed": "conv",
        "layer_scale": 0.4,
    },
    "camera_head": {"trunk_depth": 2, "num_heads": 2, "mlp_ratio": 1.0, "layer_scale": 0.4},
    "depth_head": HEADS,
    "point_head": HEADS,
    "track_head": None,
}
TRACK_HEAD = {
    **HEADS,
    "iters": 2,
    "corr_levels": 2,
    "corr_radius": 1,
    "hidden_size": 16,
    "depth": 2,
    "num_virtual_tracks": 4,
}


def tiny_model(track: bool = False, kind: type = StreamVGGT, **kwargs) -> StreamVGGT:
    torch.manual_seed(0)
    sizes = dict(SIZES, track_head=TRACK_HEAD if track else None)
    model = kind(**{**sizes, **kwargs})
    torch.nn.init.normal_(model.aggregator.camera_token, std=0.3)
    torch.nn.init.normal_(model.aggregator.register_token, std=0.3)
    return model.eval()


def random_frames(frames: int, batch: int = 1, height: int = 28, width: int = 42) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, frames, 3, height, width, generator=generator)


def write_toytown_video(root: Path, names: Sequence[str], frames: int = 6) -> None:
    """Sequences in the toy town's layout; the last one is for tests, the others for training."""
    for name in names:
        scene = Scene(frames)
        folder = root / name
        for i in range(frames):
            scene.image(folder / "rgb" / f"{i:06d}.png", i)
            scene.npy(folder / "depth" / f"{i:06d}.npy", i)
        np.savetxt(folder / "poses.txt", scene.poses.reshape(frames, 16))
        np.savetxt(folder / "intrinsics.txt", scene.K)
    (root / "train.txt").write_text("\n".join(names[:-1]))
    (root / "val.txt").write_text(names[-1])


def toytown_config(video: Path) -> Config:
    """The toy town's config at this size: two iterations of the teacher, two of the student."""
    cfg = load_config(REPO / "configs/streamvggt/streamvggt_toytown_cpu.py")
    cfg.model.teacher_iters = 2
    cfg.model.averages.update(num_views=3, image_size=(28, 42))
    for part in (cfg.model.teacher, cfg.model.student):
        part.update(SIZES)
        part.aggregator.patch_size = 14
    cfg.train_cfg.update(max_iters=4, val_interval=4)
    cfg.param_scheduler[0].end = 1
    cfg.param_scheduler[1].update(begin=1, periods=[1, 2])
    cfg.train_dataloader.dataset.update(quotas=[16], datasets=[_clips(cfg, video)])
    cfg.val_dataloader.dataset = cfg.test_dataloader.dataset = _sequence(video)
    return cfg


def distillation_config(video: Path, name: str = "streamvggt_1b_distill") -> Config:
    """A published training at this size, for four iterations."""
    cfg = load_config(REPO / "configs/streamvggt" / f"{name}.py")
    sizes = {
        **SIZES,
        "aggregator": {**SIZES["aggregator"], "patch_embed": "dino", "dino_depth": 1},
        "track_head": TRACK_HEAD,
    }
    cfg.model.update(sizes, init_cfg=None)
    if "teacher" in cfg.model:
        cfg.model.update(
            teacher={"type": "VGGT", **sizes}, teacher_checkpoint=None, num_queries=5
        )  # fmt: skip
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler[1].end = 1
    cfg.train_dataloader.update(num_workers=0)
    cfg.train_dataloader.sampler.probabilities = None
    cfg.train_dataloader.dataset.update(quotas=[4], datasets=[_clips(cfg, video)])
    cfg.val_dataloader.num_workers = 0
    cfg.val_dataloader.dataset = _sequence(video)
    return cfg


def _clips(cfg: Config, video: Path) -> dict:
    first = cfg.train_dataloader.dataset.datasets[0]
    return {
        **first, "layout": "toytown", "data_root": str(video), "num_views": 3,
        "resolutions": [(42, 28)], "patch_size": 14, "min_travel": 0.0, "min_distance": 0.0,
    }  # fmt: skip


def _sequence(video: Path) -> dict:
    return {
        "type": "EvalSequenceDataset", "layout": "toytown", "data_root": str(video),
        "resize": "principal_point", "image_size": (28, 42), "patch_size": 14, "max_frames": 4,
    }  # fmt: skip
