"""Needs of a config on each GPU, told without one, without data and without weights."""

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmengine.config import Config
from mmengine.logging import MMLogger

from mmcity.engine.config_check import ConfigError
from mmcity.engine.launch import apply_amp, load_config
from mmcity.models.layers import SceneModel
from mmcity.registry import MODELS

from .advice import Setting, first_setting, scene_cap
from .batches import Sizes, model_type, sizes_of
from .measure import Memory, Step, measure_prediction, measure_training

__all__ = ["DryRun", "dry_run", "parse_memory"]

GIB = 1 << 30
#: On top of what is counted: the context of CUDA, and workspaces of its libraries.
CONTEXT_BYTES = GIB
WORKSPACE_SHARE = 0.03
#: Of a GPU that may be full before a training is called tight.
ROOM = 0.9
#: Of the scenes of configs that set no bound.
GAUSSIANS, ANCHORS = 3_000_000, 1_000_000
#: Of a GPU that times are told for.
BYTES_PER_SECOND, FLOPS_PER_SECOND = 1e12, 4e13
_UNITS = {"G": GIB, "M": 1 << 20}


@dataclass(frozen=True)
class DryRun:
    """Needs of a config on each GPU.

    Attributes:
        config: Its name.
        sizes: Of the batch of one process in training (in prediction, where nothing is trained).
        gpus: Processes.
        training: Memory of a training step; None where nothing is trained.
        prediction: Memory of the prediction of a batch; None where there is no test.
        count: Gaussians or anchors of a scene, of all processes; 0 for networks.
        element: Their name, ``Gaussian`` or ``anchor``.
        gpu_memory: Bytes of a GPU.
        setting: To turn first where it does not fit well.
        step_seconds: Least time of a training step on a GPU of 1 TB/s and 40 TFLOP/s.
        iterations: Steps of the training; 0 where the data decide it.
        checkpoint_bytes: Of one checkpoint.
        checkpoints: Checkpoints that are kept.
        export_bytes: Of a scene as .ply; 0 for networks.
    """

    config: str
    sizes: Sizes
    gpus: int
    training: Memory | None
    prediction: Memory | None
    count: int
    element: str
    gpu_memory: int
    setting: Setting | None
    step_seconds: float
    iterations: int
    checkpoint_bytes: int
    checkpoints: int
    export_bytes: int

    @property
    def need(self) -> int:
        """Bytes of a GPU that a training (else a prediction) takes, with the allowance."""
        memory = self.training or self.prediction
        return int(memory.peak * (1 + WORKSPACE_SHARE)) + CONTEXT_BYTES if memory else 0

    @property
    def verdict(self) -> str:
        """``fits``, ``tight`` or ``does not fit``."""
        if self.need > self.gpu_memory:
            return "does not fit"
        return "tight" if self.need > ROOM * self.gpu_memory else "fits"

    def __str__(self) -> str:
        sizes = self.sizes
        shape = [f"{sizes.width} x {sizes.height}"] if sizes.width else []
        shape += [f"{sizes.frames} frames"] if sizes.frames > 1 else []
        scene = [f"{self.count:,} {self.element}s"] if self.count else []
        head = ", ".join([f"batch {sizes.batch}", *shape, *scene, f"{self.gpus} GPU"])
        lines = [f"{self.config}: {head}{'s' * (self.gpus > 1)}"]
        columns = {"training": self.training, "prediction": self.prediction}
        columns = {name: memory for name, memory in columns.items() if memory}
        lines.append(f"{'GB per GPU':12s}" + "".join(f"{name:>12s}" for name in columns))
        for row in ("parameters", "gradients", "optimizer", "activations", "peak"):
            values = (getattr(memory, row) / GIB for memory in columns.values())
            lines.append(f"{row:12s}" + "".join(f"{value:12.2f}" for value in values))
        lines.append(
            f"{self.need / GIB:.1f} GB with the context of CUDA and workspaces: {self.verdict} on "
            f"a GPU of {self.gpu_memory / GIB:g} GB"
        )
        if self.setting is not None:
            lines.append(f"turn first: {self.setting}")
        if self.step_seconds:
            total = self.step_seconds * self.iterations / 3600
            whole = f", {self.iterations:,} of them {total:.1f} h" if self.iterations else ""
            lines.append(
                f"a step takes {self.step_seconds:.2g} s{whole}, at least, at 1 TB/s and 40 TFLOP/s"
            )
        if self.checkpoint_bytes:
            ply = f"; .ply {self.export_bytes / GIB:.2f} GB" if self.export_bytes else ""
            lines.append(
                f"on disk: {self.checkpoints} checkpoints of {self.checkpoint_bytes / GIB:.2f} GB"
                + ply
            )
        return "\n".join(lines)


def parse_memory(text: str) -> int:
    """Bytes of a size such as ``24GB`` or ``80GiB``; both mean 2^30 bytes, as of GPUs.

    Raises:
        ConfigError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([GM])(?:i?B)?", str(text).strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError(f"--gpu-memory: expected a size such as 24GB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def dry_run(
    config: str | os.PathLike | Config,
    *,
    gpu_memory: str = "24GB",
    gpus: int = 1,
    batch_size: int | None = None,
    scene_size: int | None = None,
    seen: float = 0.3,
    image_size: tuple[int, int] | None = None,
    amp: bool = False,
    cfg_options: Mapping[str, object] | None = None,
) -> DryRun:
    """Memory per GPU that a config needs, counted by running a training step and a prediction dry.

    Args:
        config: Config file, or a name that ``mmcity list`` prints.
        gpu_memory: Memory of a GPU. Defaults to 24GB.
        gpus: GPUs that train together. Defaults to 1.
        batch_size: Samples per step and process. Defaults to the config's.
        scene_size: Gaussians or anchors of a scene. Defaults to the bound of the config, else
            to 3 million Gaussians or 1 million anchors.
        seen: Share of a scene that one view sees. Defaults to 0.3.
        image_size: Width and height of photographs before the config's resize. Defaults to those
            of its data set, else to 1600 x 1200.
        amp: Train in mixed precision. Defaults to False.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Raises:
        ConfigError: If a size is none, or the model is not known.
        FileNotFoundError: If there is no such config.
    """
    memory = parse_memory(gpu_memory)
    for name, value in dict(gpus=gpus, batch_size=batch_size, scene_size=scene_size).items():
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option}: expected a whole number from 1 on, got {value}")
    if not 0 < seen <= 1:
        raise ConfigError(f"--seen: expected a share above 0, at most 1, got {seen}")
    if image_size is not None and min(image_size) < 1:
        raise ConfigError(f"--image-size: expected width and height in px, got {image_size}")
    cfg = copy.deepcopy(config) if isinstance(config, Config) else load_config(config, cfg_options)
    if amp:
        apply_amp(cfg)
    MMLogger.get_current_instance().setLevel("ERROR")  # what optimisers say of each parameter
    kind = MODELS.get(model_type(cfg))
    is_scene = isinstance(kind, type) and issubclass(kind, SceneModel)
    count = _count(cfg, kind, scene_size) if is_scene else 0
    share = gpus if "ShardedScene" in str((cfg.get("model_wrapper_cfg") or {}).get("type")) else 1
    options = dict(count=-(-count // share), seen=seen)
    sizes = prediction = step = None
    if cfg.get("test_dataloader") or cfg.get("val_dataloader") or not cfg.get("optim_wrapper"):
        sizes = sizes_of(cfg, training=False, image_size=image_size)
        prediction = measure_prediction(cfg, sizes, count=count, seen=seen)
    if cfg.get("optim_wrapper") and cfg.get("train_dataloader"):
        sizes = sizes_of(cfg, batch_size=batch_size, image_size=image_size)
        # Processes that share a scene share the rows of its pictures, too.
        part = replace(sizes, height=-(-sizes.height // share))
        step = measure_training(cfg, part, **options)
    training = None if step is None else _on_each(step, cfg, gpus, is_scene)
    found = DryRun(
        config=os.path.relpath(cfg.filename) if cfg.filename else model_type(cfg),
        sizes=sizes,
        gpus=gpus,
        training=training,
        prediction=prediction,
        count=count,
        element=getattr(kind, "element", ""),
        gpu_memory=memory,
        setting=None,
        step_seconds=_seconds(step),
        iterations=(cfg.get("train_cfg") or {}).get("max_iters", 0) if step else 0,
        checkpoint_bytes=step.saved * share if step else 0,
        checkpoints=_checkpoints(cfg),
        export_bytes=_export_bytes(cfg, count),
    )
    if training is not None and found.verdict != "fits":
        return replace(found, setting=first_setting(cfg, training, gpus))
    return found


def _count(cfg: Config, kind: type, scene_size: int | None) -> int:
    cap = scene_cap(cfg)
    default = ANCHORS if kind.element == "anchor" else GAUSSIANS
    return scene_size or (cap[1] if cap else None) or default


def _on_each(step: Step, cfg: Config, gpus: int, is_scene: bool) -> Memory:
    """Memory of one of several processes, which divide what the config says they share."""
    memory = step.memory
    if gpus == 1 or is_scene:
        return memory
    if "FullyShard" not in str((cfg.get("strategy") or {}).get("type")):
        # Gradients are averaged in buckets, a second copy of them.
        return replace(memory, activations=memory.activations + step.trainable)
    own = step.own // gpus + min(step.gathered, step.own)
    return Memory(
        memory.parameters - step.own + own,
        memory.gradients // gpus,
        memory.optimizer // gpus,
        memory.activations,
    )


def _seconds(step: Step | None) -> float:
    if step is None:
        return 0.0
    return step.traffic / BYTES_PER_SECOND + step.flops / FLOPS_PER_SECOND


def _checkpoints(cfg: Config) -> int:
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    kept = hook.get("max_keep_ckpts", 1)
    return max(kept, 1) + bool(hook.get("save_best"))


def _export_bytes(cfg: Config, count: int) -> int:
    """Bytes of the .ply of a scene: 14 numbers and the colours of each Gaussian."""
    colors = 3
    if model_type(cfg) == "CityGSX":
        count *= cfg.model.get("n_offsets", 10)
    elif model_type(cfg) == "GaussianSplatting":
        colors *= (cfg.model.get("sh_degree", 3) + 1) ** 2
    return 4 * (14 + colors) * count
