"""Writes what a test gives, one file per sample."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmcity.registry import HOOKS
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import atomic_path
from mmcity.visualization import colorize_depth, colorize_error, write_image


@HOOKS.register_module()
@dataclass(eq=False)
class DumpResultHook(Hook):
    """Dump each test sample: arrays as ``.npz`` or ``.pkl``, pictures as PNG.

    A file holds the fields of the data sample (render, ground truth, depth, camera, labels,
    whatever the system sets), its meta values, and the numbers that the metrics gave this
    sample, under dotted names: ``pred_image``, ``camera.Ks``, ``meta.img_path``,
    ``metrics.psnr``. Files are written whole or not at all.

    Args:
        out_dir: Folder. Defaults to ``<work_dir>/results``.
        interval: Dump every n-th sample. Defaults to 1.
        format: ``npz`` (compressed; read it with ``numpy.load``) or ``pkl`` (a dict of
            arrays; only unpickle files that you trust). Defaults to ``npz``.
        keys: Names in the file and where each value lies in the sample, e.g.
            ``dict(occ_pred="pred_occupancy.labels")``. Defaults to None: everything.
        dtypes: Types of single arrays by name, e.g. ``dict(occ_pred="uint8")``. Images in
            [0, 1] take 8 bits with ``uint8``. Defaults to none.
        pictures: Also write PNGs where a sample has ``pred_image``: render, photograph,
            error and depth. Defaults to True.
        name_keys: Meta values that may name the file, first found wins. Defaults to
            ``img_name``, ``sample_idx``, ``token``, ``index``.
    """

    priority = "LOW"

    out_dir: str | None = None
    interval: int = 1
    format: str = "npz"
    keys: dict[str, str] | None = None
    dtypes: dict[str, str] | None = None
    pictures: bool = True
    name_keys: Sequence[str] = ("img_name", "sample_idx", "token", "index")

    def __post_init__(self) -> None:
        check_choice("format", self.format, ("npz", "pkl"))
        if self.interval < 1:
            raise ValueError(f"interval: expected at least 1, got {self.interval}")

    def before_test(self, runner) -> None:
        """Choose the folder and start counting."""
        self._folder = Path(self.out_dir or Path(runner.work_dir) / "results")
        self._seen = 0
        self._names: set[str] = set()

    def after_test_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Dump the samples of one batch."""
        outputs = list(outputs or [])
        numbers = _numbers_per_sample(runner, len(outputs))
        for sample, metrics in zip(outputs, numbers):
            number, self._seen = self._seen, self._seen + 1
            if number % self.interval == 0:
                self._dump(sample, metrics, number)

    def after_test(self, runner) -> None:
        """Say where the files are."""
        runner.logger.info(f"wrote {len(self._names)} results to {self._folder}")

    def _dump(self, sample: BaseDataElement, metrics: dict[str, Any], number: int) -> None:
        flat = flatten_sample(sample)
        flat.update({f"metrics.{name}": np.asarray(value) for name, value in metrics.items()})
        stem = self._file_stem(sample, number)
        record = flat if self.keys is None else _choose(flat, self.keys, stem)
        for name, dtype in (self.dtypes or {}).items():
            if name in record:
                record[name] = _cast(record[name], dtype)
        with atomic_path(self._folder / f"{stem}.{self.format}") as path:
            if self.format == "npz":
                np.savez_compressed(path, **record)
            else:
                # Texts as plain lists, as the published layouts of occupancy have them.
                plain = {k: v.tolist() if v.dtype.kind == "U" else v for k, v in record.items()}
                path.write_bytes(pickle.dumps(plain, protocol=4))
        if self.pictures:
            self._draw(flat, stem)

    def _draw(self, flat: dict[str, np.ndarray], stem: str) -> None:
        render, photograph = flat.get("pred_image"), flat.get("gt_image")
        if render is None:
            return
        write_image(self._folder / f"{stem}_render.png", render)
        if photograph is not None:
            write_image(self._folder / f"{stem}_photograph.png", photograph)
            write_image(self._folder / f"{stem}_error.png", colorize_error(render, photograph))
        if "pred_depth" in flat:
            alpha = flat.get("pred_alpha")
            valid = None if alpha is None else alpha > 0.5
            write_image(
                self._folder / f"{stem}_depth.png", colorize_depth(flat["pred_depth"], valid)
            )

    def _file_stem(self, sample: BaseDataElement, number: int) -> str:
        stem = f"{number:06d}"
        for key in self.name_keys:
            if sample.metainfo.get(key) is not None:
                value = str(sample.metainfo[key])
                stem = str(Path(value).with_suffix("")) if key == "img_name" else value
                break
        stem = stem.strip("/").replace("/", "__")
        if stem in self._names:  # two cameras may use the same names
            stem = f"{stem}_{number:06d}"
        self._names.add(stem)
        return stem if get_rank() == 0 else f"{stem}_rank{get_rank()}"


def flatten_sample(sample: BaseDataElement) -> dict[str, np.ndarray]:
    """Fields and meta values of a sample as arrays under dotted names."""
    flat: dict[str, np.ndarray] = {}
    for name, value in sample.items():
        _flatten(name.lstrip("_"), value, flat)
    for name, value in sample.metainfo_items():
        _flatten(f"meta.{name}", value, flat)
    return flat


def _flatten(name: str, value: Any, flat: dict[str, np.ndarray]) -> None:
    if value is None:
        return
    if isinstance(value, Tensor):
        flat[name] = value.detach().cpu().numpy()
    elif isinstance(value, (np.ndarray, int, float, str, bool, np.generic)):
        flat[name] = np.asarray(value)
    elif isinstance(value, BaseDataElement):
        for key, inner in value.items():
            _flatten(f"{name}.{key.lstrip('_')}", inner, flat)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, flat)
    elif isinstance(value, (list, tuple)) and all(isinstance(v, (int, float, str)) for v in value):
        flat[name] = np.asarray(value)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            _flatten(f"{name}.{number}", inner, flat)
    elif hasattr(value, "__dict__"):  # the containers of mmcity.structures
        for key, inner in vars(value).items():
            _flatten(f"{name}.{key.lstrip('_')}", inner, flat)
    else:
        raise TypeError(f"{name}: expected what can be dumped, got {type(value).__name__}")


def _choose(flat: dict[str, np.ndarray], keys: dict[str, str], stem: str) -> dict[str, np.ndarray]:
    missing = sorted(set(keys.values()) - set(flat))
    if missing:
        raise KeyError(f"sample {stem}: expected {missing}, got {sorted(flat)}")
    return {name: flat[source] for name, source in keys.items()}


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    if np.issubdtype(array.dtype, np.floating) and dtype == "uint8":
        return (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return array.astype(dtype)


def _numbers_per_sample(runner, count: int) -> list[dict[str, Any]]:
    """Numbers that the metrics noted for the last ``count`` samples."""
    merged: list[dict[str, Any]] = [{} for _ in range(count)]
    for metric in runner.test_evaluator.metrics:
        rows = metric.results[-count:] if count else []
        if len(rows) == count:
            for row, target in zip(rows, merged):
                if isinstance(row, Mapping):
                    target.update({k: v for k, v in row.items() if np.isscalar(v)})
    return merged
