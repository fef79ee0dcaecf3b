"""Batches of the sizes that a config asks for, without its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmcity.datasets.transforms.posed_images import target_size
from mmcity.engine.config_check import ConfigError
from mmcity.structures import (
    Cameras,
    LocalizationDataSample,
    OccupancyDataSample,
    SceneDataSample,
    SequenceDataSample,
)

__all__ = ["Sizes", "fill_scene", "make_batch", "model_type", "prepare", "sizes_of"]

#: Width and height of photographs, px, where the data set decides them; others: as COLMAP scenes.
PHOTOGRAPHS = {
    "SevenScenes": (640, 480),
    "CambridgeLandmarks": (1920, 1080),
    "CityGSXDataset": (4608, 3456),  # Mill-19 Building
}
OTHER_PHOTOGRAPHS = (1600, 1200)
#: Photographs of a scene whose exposures and motions are learnt.
TRAINING_VIEWS = 100
#: Frames of a clip whose config does not say how many.
FRAMES = 10
#: Height and width of nuScenes' pictures before the augmentation.
SURROUND_SHAPE = (900, 1600)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a batch.

    Attributes:
        batch: Samples (views, clips) of one process.
        width, height: Of a picture as the model sees it, px; 0 where there are none.
        frames: Of a clip; 1 for pictures.
    """

    batch: int
    width: int = 0
    height: int = 0
    frames: int = 1


def _leaf(dataset: Mapping) -> Mapping:
    """The data set inside of mixtures and repetitions."""
    while "dataset" in dataset or "datasets" in dataset:
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    return dataset


def _loader(cfg: Config, training: bool) -> Mapping:
    names = ("train_dataloader", "test_dataloader", "val_dataloader")
    found = (cfg.get(name) for name in (names if training else names[::-1][:2] + names[:1]))
    return next((loader for loader in found if loader), {})


def model_type(cfg: Config) -> str:
    """Class name of a config's model, without scope."""
    kind = cfg.model["type"]
    return getattr(kind, "__name__", str(kind).rsplit(".", 1)[-1])


def sizes_of(
    cfg: Config,
    training: bool = True,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> Sizes:
    """Sizes that a config asks for.

    Args:
        cfg: Whole config.
        training: Of its training, or of its test. Defaults to True.
        batch_size: Instead of the config's. Defaults to None.
        image_size: Width and height of the photographs before the config's resize, px. Defaults
            to what its data set has, else to 1600 x 1200.

    Raises:
        ConfigError: If the model is none that batches are known for.
    """
    loader = _loader(cfg, training)
    dataset = _leaf(loader.get("dataset", {}))
    batch = batch_size or loader.get("batch_size", 1)
    kind = model_type(cfg)
    if kind not in _MAKERS:
        raise ConfigError(
            f"model.type: expected one of {', '.join(sorted(_MAKERS))} for a dry run, got "
            f"{kind!r}: give make_batch in mmcity/engine/dry_run/batches.py a function for it"
        )
    maker = _MAKERS[kind]
    if maker is _surround:
        height, width = cfg.model["gauss_head"]["image_shape"]
        return Sizes(batch, width, height)
    if maker is _video:
        sizes = dataset.get("resolutions")
        size = max(sizes, key=lambda s: s[0] * s[1]) if sizes else None
        if size is None and dataset.get("image_size"):
            size = dataset["image_size"][::-1]  # the data set's own is (height, width)
        frames = dataset.get("num_views") or dataset.get("max_frames") or FRAMES
        frames = 1 if dataset.get("per_frame") else frames
        return Sizes(batch, *(image_size or size or (518, 392)), frames)
    if maker in (_scene, _photographs):
        known = PHOTOGRAPHS.get(str(dataset.get("type", "")).rsplit(".", 1)[-1])
        width, height = image_size or known or OTHER_PHOTOGRAPHS
        width, height = target_size(
            width, height, **{k: v for k, v in dataset.get("resize", {}).items()
                              if k != "interpolation"}
        )  # fmt: skip
        return Sizes(batch, width, height)
    return Sizes(batch, frames=dataset.get("sequence_length", 1))


def make_batch(cfg: Config, sizes: Sizes, training: bool, device: str) -> dict[str, Any]:
    """A batch as it comes from the loader, made on the device.

    Args:
        cfg: Whole config.
        sizes: Of the batch.
        training: Whether it is to train on.
        device: Where its tensors lie.

    Returns:
        ``inputs`` and ``data_samples``, as the model's preprocessor takes them.
    """
    with torch.device(device):
        inputs, samples = _MAKERS[model_type(cfg)](cfg, sizes, training)
    return {"inputs": inputs, "data_samples": samples}


def _cameras(count: int, width: int, height: int) -> Cameras:
    """Cameras side by side that look along z."""
    K = torch.tensor([[width, 0.0, width / 2], [0, width, height / 2], [0, 0, 1]])
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = torch.linspace(-0.5, 0.5, count) if count > 1 else 0.0
    return Cameras(K, viewmats, width, height, validate=False)


def _pictures(sizes: Sizes) -> dict[str, list[Tensor]]:
    shape = (3, sizes.height, sizes.width)
    return {"img": [torch.zeros(shape, dtype=torch.uint8) for _ in range(sizes.batch)]}


def _scene(cfg: Config, sizes: Sizes, training: bool) -> tuple:
    dataset = _leaf(_loader(cfg, training).get("dataset", {}))
    samples = []
    for row in range(sizes.batch):
        sample = SceneDataSample(metainfo=dict(camera_index=row, index=row, img_name=str(row)))
        sample.camera = _cameras(1, sizes.width, sizes.height)
        if training and dataset.get("depth_dir"):
            prior = torch.full((sizes.height, sizes.width), 0.25)
            prefix = "" if model_type(cfg) == "CityGSX" else "gt_"
            sample.set_field(prior, f"{prefix}inverse_depth")
        if training and model_type(cfg) == "CityGSX" and dataset.get("use_neighbours", True):
            shape = (3, sizes.height, sizes.width)
            sample.set_field(torch.zeros(shape, dtype=torch.uint8), "neighbour_image")
            sample.set_field(_cameras(1, sizes.width, sizes.height), "neighbour_camera")
        samples.append(sample)
    return _pictures(sizes), samples


def fill_scene(model: Any, count: int, sizes: Sizes) -> None:
    """Put Gaussians or anchors before the cameras of an empty scene.

    Args:
        model: A scene model.
        count: Gaussians or anchors.
        sizes: Of its pictures.
    """
    device = model.iteration.device
    with torch.device(device):
        cameras = _cameras(TRAINING_VIEWS, sizes.width, sizes.height)
        points = torch.rand(count, 3)
        if 12 * count <= 1 << 20:  # values of more are not kept in a dry run
            points = points * 2 - points.new_tensor([1.0, 1.0, -2.0])
        if hasattr(model, "anchors"):
            model.views.initialize(cameras)
            model.anchors.assign(points, torch.zeros(count, dtype=torch.int32))
            model.anchors.features.data.normal_()
            if model.decoder.appearance is not None:
                model.decoder.appearance.initialize(TRAINING_VIEWS)
            model.initialize_exposure(cameras, None)
        else:
            model.initialize(cameras, points, torch.rand(count, 3))
    model.to(device)


def prepare(model: Any, sizes: Sizes) -> None:
    """Give a model what hooks give it before its first step."""
    if hasattr(model, "views") and hasattr(model.views, "set_rendered"):  # pose regression
        pictures = torch.zeros(sizes.batch, 3, sizes.height, sizes.width)
        model.views.set_rendered(pictures)
        model.views.set_perturbed(pictures, torch.eye(3, 4).flatten().repeat(sizes.batch, 1))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics come with the weights
            module.running_mean.fill_(0.1)
    for name in ("pose_scale", "data_preprocessor.focal"):
        owner, _, name = name.rpartition(".")
        owner = model.get_submodule(owner) if owner else model
        if hasattr(owner, name):
            getattr(owner, name).fill_(1.0)
    if hasattr(model, "steps_done"):  # two stages: the second one also holds the teacher
        model.steps_done.fill_(model.teacher_iters)


def _photographs(cfg: Config, sizes: Sizes, training: bool) -> tuple:
    samples = []
    for row in range(sizes.batch):
        sample = LocalizationDataSample(metainfo=dict(index=row, img_name=str(row)))
        sample.camera = _cameras(1, sizes.width, sizes.height)
        samples.append(sample)
    return _pictures(sizes), samples


def _surround(cfg: Config, sizes: Sizes, training: bool) -> tuple:
    dataset = _leaf(_loader(cfg, training)["dataset"])
    pipeline = {str(step["type"]).rsplit(".", 1)[-1]: step for step in dataset["pipeline"]}
    views = pipeline["BEVLoadMultiViewImageFromFiles"].get("num_views", 6)
    keys = pipeline["PackMultiViewInputs"].get("keys", ("depth",))
    height, width = sizes.height, sizes.width
    patch = cfg.model["gauss_head"]["patch_size"]
    shapes = {
        "depth": (height, width),
        "sem_seg": (height, width),
        "feats": (cfg.model["neck"]["in_channels"], height // patch, width // patch),
    }
    scale = width / SURROUND_SHAPE[1]
    matrices = {
        "cam2img": torch.diag(torch.tensor([1200.0, 1200.0, 1.0, 1.0])),
        "cam2ego": torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]),
        "img_aug_mat": torch.diag(torch.tensor([scale, height / SURROUND_SHAPE[0], 1.0, 1.0])),
    }
    matrices["cam2img"][0, 2], matrices["cam2img"][1, 2] = 800.0, 450.0
    batch = [
        {
            "img": torch.zeros(views, 3, height, width),
            **{name: matrix.repeat(views, 1, 1) for name, matrix in matrices.items()},
            **{name: torch.full((views, *shapes[name]), 10.0) for name in shapes if name in keys},
        }
        for _ in range(sizes.batch)
    ]
    inputs = {name: [sample[name] for sample in batch] for name in batch[0]}
    meta = dict(ori_shape=SURROUND_SHAPE)
    return inputs, [OccupancyDataSample(metainfo=meta) for _ in batch]


def _video(cfg: Config, sizes: Sizes, training: bool) -> tuple:
    shape = (sizes.frames, sizes.height, sizes.width)
    samples = []
    for _ in range(sizes.batch):
        sample = SequenceDataSample()
        sample.gt_depths = torch.full(shape, 5.0)
        sample.cameras = _cameras(sizes.frames, sizes.width, sizes.height)
        samples.append(sample)
    images = [torch.zeros(shape[0], 3, *shape[1:]) for _ in samples]
    return {"images": images}, samples


def _clip(cfg: Config, sizes: Sizes, training: bool) -> tuple:
    dataset = _leaf(_loader(cfg, training).get("dataset", {}))
    grid = cfg.model.get("spatial_size") or dataset.get("crop") or (128, 128, 8)
    shape = (cfg.model.get("sequence_length", sizes.frames), *grid)
    classes = cfg.model.get("num_classes", 12)  # all occur
    voxels = [torch.randint(classes, shape, dtype=torch.uint8) for _ in range(sizes.batch)]
    return {"voxels": voxels}, [OccupancyDataSample() for _ in voxels]


def _rollout(cfg: Config, sizes: Sizes, training: bool) -> tuple:
    denoiser = cfg.model["denoiser"]
    t, x, y, z = denoiser["txyz"]
    side = x + t + z  # of the square that the six planes are laid into
    frames, grid = denoiser.get("sequence_length", 16), (2 * x, 2 * y)
    shapes = {
        "rollout": (denoiser["in_channels"], side, side),
        "hexplane": (denoiser["in_channels"], side, side),
        "layout": (frames, *grid),
        "trajectory": (frames, 3),
        "command": (),
    }
    names = [*(["rollout"] if training else ()), *denoiser.get("conditions", ())]
    inputs = {name: [torch.zeros(shapes[name]) for _ in range(sizes.batch)] for name in names}
    return inputs, [OccupancyDataSample() for _ in range(sizes.batch)]


_MAKERS: dict[str, Callable[[Config, Sizes, bool], tuple]] = {
    "AppearanceGaussians": _scene,
    "CityGSX": _scene,
    "GaussTR": _surround,
    "GaussianSplatting": _scene,
    "HexPlaneDiffusion": _rollout,
    "HexPlaneVAE": _clip,
    "OccFeatureNet": _clip,
    "OccResampler": _clip,
    "RAPTrainer": _photographs,
    "StreamVGGT": _video,
    "TeacherThenStudent": _video,
    "VGGT": _video,
}
