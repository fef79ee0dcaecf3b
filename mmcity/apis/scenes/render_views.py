"""Pictures of the views of a scene, beside their photographs."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.progress import track
from torch import Tensor, nn

from mmcity.engine.distributed import launched_processes
from mmcity.engine.launch import load_config
from mmcity.engine.scene_loading import build_views
from mmcity.structures import Cameras, SceneDataSample
from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures
from mmcity.utils.picture_names import match_names, output_names
from mmcity.visualization import write_grey16, write_image

from .scene_renderer import SceneRenderer

_Look = Callable[[Tensor, Cameras], None]


@torch.no_grad()
def render_views(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike = "renders",
    *,
    splits: Sequence[str] = ("test",),
    every: int = 1,
    appearance: str | None = None,
    blend: float = 1.0,
    depth_limit: float | None = None,
    device: str | None = None,
    cfg_options: Mapping[str, object] | None = None,
) -> dict[str, list[Path]]:
    """Render views of a scene and write ``OUT/SPLIT/{renders,gt,depths,normals}/NAME.png``.

    Depths have 16 bit, normals are in camera axes. Several processes (torchrun) share out the
    views.

    Args:
        config: Config of the scene.
        checkpoint: Its checkpoint, whole or in parts.
        out: Folder. Defaults to ``renders``.
        splits: Of ``train`` and ``test``. Defaults to the test views.
        every: Take every n-th view. Defaults to 1.
        appearance: Look of a scene whose colours follow a photograph: ``intrinsic``, or the name
            of a training image. Defaults to None: each view's own photograph.
        blend: Weight of the appearance, 0 to 2. Defaults to 1.
        depth_limit: Depth that 65535 stands for, world units. Defaults to each view's largest.
        device: Defaults to CUDA where it is, else the CPU.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        The renders that this process wrote, by split.

    Raises:
        UserError: If there is no such training image, or the scene knows no appearance; or,
            once the others are written, if views fail.
    """
    cfg = load_config(config, cfg_options)
    model = SceneRenderer(cfg, checkpoint, device).model
    set_look = None
    if appearance is not None or blend != 1:
        set_look = _appearance_setter(model, cfg, appearance, blend)
    rank, size = launched_processes()
    written: dict[str, list[Path]] = {}
    failures = ItemFailures("views")
    for split in splits:
        dataset, folder = build_views(cfg, split, model), Path(out) / split
        written[split], names = [], output_names(dataset.img_names, ".png")
        for row in track(range(0, len(dataset), every)[rank::size], f"Rendering {split} views"):
            name = names[dataset.img_names[row]]
            with failures.item(f"{split} view {dataset.img_names[row]}"):
                photograph, sample = _load_view(model, dataset[row])
                if set_look is None:
                    sample = model.predict([photograph], [sample])[0]
                else:
                    set_look(photograph, sample.camera)
                    model.fill_sample(sample, model.render(sample.camera), photograph)
                _write_view(folder, name, sample, depth_limit)
                written[split].append(folder / "renders" / name)
    failures.check()
    return written


def _write_view(
    folder: Path, name: str, sample: SceneDataSample, depth_limit: float | None
) -> None:
    write_image(folder / "renders" / name, sample.pred_image)
    write_image(folder / "gt" / name, sample.gt_image)
    write_image(folder / "normals" / name, sample.pred_normal * 0.5 + 0.5)
    depth = sample.pred_depth.cpu()
    limit = depth_limit or max(float(depth.max()), 1e-6)
    write_grey16(folder / "depths" / name, (depth / limit).numpy())


def _load_view(model: nn.Module, item: dict[str, Any]) -> tuple[Tensor, SceneDataSample]:
    """Photograph (3, H, W) and sample of a view, on the device of the model."""
    batch = dict(inputs=[item["inputs"]["img"]], data_samples=[item["data_samples"]])
    data = model.data_preprocessor(batch, False)
    return data["inputs"][0], data["data_samples"][0]


def _appearance_setter(model: nn.Module, cfg: Config, name: str | None, blend: float) -> _Look:
    """Function that gives a model the look of a view's photograph, or the one asked for."""
    if not hasattr(model, "set_appearance"):
        raise UserError(
            f"--appearance, --blend: expected a model with them, got {type(model).__name__}"
        )
    if name is None:
        return lambda photograph, camera: model.set_appearance(photograph, camera, blend)
    if name == "intrinsic":
        return lambda photograph, camera: model.clear_appearance()
    dataset = build_views(cfg, "train", model)
    meant = match_names([name], dataset.img_names, "--appearance")
    if name not in meant:
        raise UserError(f"--appearance: expected a training image, got {name!r}")
    photograph, sample = _load_view(model, dataset[dataset.img_names.index(meant[name])])
    model.set_appearance(photograph, sample.camera, blend)
    return lambda photograph, camera: None
