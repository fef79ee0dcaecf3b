"""Published checkpoints of the systems to those of the toolbox, and back."""

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmcity.engine.checkpointing import (
    CheckpointError,
    check_is_checkpoint,
    check_matches_model,
    compare_entries,
    load_checkpoint_weights,
    load_from_local,
)
from mmcity.engine.citygsx.published_folder import read_folder, write_folder
from mmcity.engine.launch import load_config
from mmcity.engine.rap.published_map import read_map_folder, write_map_folder
from mmcity.models.dynamiccity import checkpoint_keys as dynamiccity_keys
from mmcity.models.gausstr import checkpoint_keys as gausstr_keys
from mmcity.models.rap.checkpoint_keys import from_published, to_published
from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import write_text
from mmcity.utils.torch_files import write_torch

_SHOWN_NAMES = 6


@dataclass
class ConversionReport:
    """Files and differences of one conversion.

    Attributes:
        path: File or folder.
        converted: Names of the entries that were taken over, as they are called there.
        missing: Entries of the model that the source lacks; they are as the config makes them.
        unexpected: Entries of the source that the model has no place for.
        notes: What to know about the result.
    """

    path: Path
    converted: list[str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"wrote {self.path}: {len(self.converted)} entries"]
        for what, names in (
            ("not in the source, so as the config makes them", self.missing),
            ("of the source without a place there", self.unexpected),
        ):
            if names:
                more = ", ..." * (len(names) > _SHOWN_NAMES)
                lines.append(f"{len(names)} {what}: {', '.join(names[:_SHOWN_NAMES])}{more}")
        return "\n".join([*lines, *self.notes])


def convert_checkpoint(
    system: str,
    src: str | os.PathLike,
    dst: str | os.PathLike,
    *,
    reverse: bool = False,
    config: str | os.PathLike | None = None,
    weights: str | None = None,
    text_protos: str | os.PathLike | None = None,
    iteration: int | None = None,
) -> ConversionReport:
    """Convert a published checkpoint, or one of ours to the published form.

    All names and shapes are checked; where something is missing or extra, all of it is listed
    and nothing is written.

    Args:
        system: ``citygsx``, ``dynamiccity``, ``gausstr``, ``rap`` (pose networks), ``rap-map``
            (appearance maps) or ``streamvggt``.
        src: Published file; for ``citygsx`` a folder ``point_cloud/iteration_N``, for
            ``rap-map`` a 3DGS folder.
        dst: Checkpoint to write. Beside one of ``rap-map``, a file ``.py`` gets the config.
        reverse: Convert from ours to theirs: ``src`` and ``dst`` change their roles. Defaults
            to False.
        config: Config whose model the weights are for, by path or name. Needed for
            ``dynamiccity`` and ``gausstr``. Defaults to ``rap_colmap`` for ``rap`` and
            ``streamvggt_1b`` for ``streamvggt``; the others take none.
        weights: For ``dynamiccity``: ``ema`` or ``model``, which weights of a published DiT to
            take. Defaults to ``ema``.
        text_protos: For ``gausstr``: file with a tensor ``(C, P)``, where the source has none.
        iteration: For ``rap-map``. Defaults to the last one.

    Raises:
        FileNotFoundError: If a file is missing.
        CheckpointError: If weights do not fit the config.
        ValueError: If the system or an option is unknown, or a file is malformed.
    """
    check_choice("system", system, _CONVERTERS)
    convert = _CONVERTERS[system]
    options = {
        "config": config, "weights": weights, "text_protos": text_protos, "iteration": iteration,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(convert).parameters
    for name in given:
        if name not in known:
            raise ValueError(f"{name}: expected none for {system}, got {given[name]}")
    if "config" in known and known["config"].default is inspect.Parameter.empty and not config:
        raise ValueError(f"config: expected the config of the {system} model, got none")
    return convert(Path(src), Path(dst), reverse, **given)


def _build(config: str | os.PathLike, leave_out: Iterable[str] = ()) -> nn.Module:
    """Model of a config."""
    model = {k: v for k, v in load_config(config).model.items() if k not in leave_out}
    with DefaultScope.overwrite_default_scope("mmcity"):
        return MODELS.build(model)


def _check(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    src: Path,
    config: str | os.PathLike,
) -> None:
    """List all that keeps weights from fitting."""
    missing, unexpected, reshaped = compare_entries(weights, expected)
    lines = [f"missing: {key} {tuple(expected[key].shape)}" for key in missing]
    lines += [f"extra: {key} {tuple(weights[key].shape)}" for key in unexpected]
    lines += [
        f"shape: {key} is {tuple(weights[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in reshaped
    ]
    if lines:
        raise CheckpointError(
            f"{src}: expected the names and shapes of {config}, got {len(lines)} others; nothing "
            "was written: name the config that the weights are for\n" + "\n".join(lines)
        )


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _citygsx(src: Path, dst: Path, reverse: bool) -> ConversionReport:
    if reverse:
        state = load_checkpoint_weights(src)
        write_folder(state, dst)
        converted = [key for key in state if key.startswith(("anchors.", "decoder.", "placement."))]
        return ConversionReport(
            dst, converted, unexpected=[key for key in state if key not in converted]
        )
    state = read_folder(src)
    write_torch(dst, {"state_dict": state, "meta": {"source": str(src)}})
    count, k = state["anchors.offsets"].shape[:2]
    width = state["anchors.features"].shape[1]
    notes = [
        f"{count} anchors; the config needs feat_dim={width}, n_offsets={k}",
        "Camera poses are no part of the original's files: views.* stay empty (load non-strict).",
    ]
    return ConversionReport(dst, list(state), notes=notes)


def _dynamiccity(
    src: Path, dst: Path, reverse: bool, config: str | os.PathLike, weights: str = "ema"
) -> ConversionReport:
    model = _build(config)
    own = model.state_dict()
    prefix = dynamiccity_keys.DENOISER if hasattr(model, "denoiser") else ""
    expected = _below(prefix, own)
    if reverse:
        source = load_checkpoint_weights(src)
        state = _below(prefix, source)
        _check(state, expected, src, config)
        write_torch(dst, {"model_state_dict": state, **({"ema": state} if prefix else {})})
        left_out = [key for key in source if not key.startswith(prefix)]
        return ConversionReport(dst, list(state), unexpected=left_out)
    content = load_from_local(src, map_location="cpu")
    state = dynamiccity_keys.published_weights(content, weights, str(src))
    if prefix:  # fixed table, absent from some files
        state.setdefault("pos_embed", expected["pos_embed"])
    _check(state, expected, src, config)
    state = {prefix + key: value for key, value in state.items()}
    statistics = ["latent_mean", "latent_std"] if prefix else []
    write_torch(dst, {"state_dict": {**state, **{key: own[key] for key in statistics}}, "meta": {}})
    return ConversionReport(dst, list(state), missing=statistics)


def _gausstr(
    src: Path,
    dst: Path,
    reverse: bool,
    config: str | os.PathLike,
    text_protos: str | os.PathLike | None = None,
) -> ConversionReport:
    model = _build(config)
    state = model.state_dict()
    own = {key: value for key, value in state.items() if gausstr_keys.is_own(key)}
    expected = {key: value for key, value in state.items() if key not in own}
    source = load_checkpoint_weights(src)
    is_alien = gausstr_keys.is_own if reverse else gausstr_keys.is_published_alone
    weights = {key: value for key, value in source.items() if not is_alien(key)}
    if text_protos is not None and not reverse:
        protos = load_from_local(text_protos, map_location="cpu")
        protos = protos["embeds"] if isinstance(protos, Mapping) else protos
        for i in range(len(model.gauss_heads)):
            weights[f"gauss_heads.{i}.text_proto_embeds"] = protos.float()
    _check(weights, expected, src, config)
    added = gausstr_keys.published_buffers(model) if reverse else own
    write_torch(dst, {"state_dict": {**weights, **added}, "meta": {}})
    return ConversionReport(
        dst, list(weights), missing=list(added), unexpected=[key for key in source if is_alien(key)]
    )


def _rap(
    src: Path, dst: Path, reverse: bool, config: str | os.PathLike = "rap_colmap"
) -> ConversionReport:
    model = _build(config)
    prefix, expected = "network.", model.network.state_dict()
    source = load_from_local(src, map_location="cpu")
    if reverse:
        weights = _below(prefix, check_is_checkpoint(source, str(src)))
        _check(weights, expected, src, config)
        result = {theirs: weights[ours] for ours, theirs in to_published(expected).items()}
        unused = source.get("unused", {})
        write_torch(dst, {**result, **unused})
        note = "the source holds no unused tensors: published code loads it with strict=False"
        return ConversionReport(dst, [*result, *unused], notes=[] if unused else [note])
    published = dict(check_is_checkpoint(source.get("model_state_dict", source), str(src)))
    renamed, unused = from_published(published)
    _check(renamed, expected, src, config)
    # What published weights lack stays as it is built: the field of view and size of training
    # are not known. (A discriminator takes part in training only.)
    own = {k: v for k, v in model.state_dict().items() if "discriminator." not in k}
    taken = {prefix + key: value for key, value in renamed.items()}
    content = {
        "state_dict": {**own, **taken},
        "unused": {key: published[key] for key in unused},
        "meta": {},
    }
    write_torch(dst, content)
    return ConversionReport(
        dst,
        list(taken),
        missing=[key for key in own if key not in taken],
        unexpected=unused,
        notes=["what has no place has no influence on any output, and is kept under 'unused'"],
    )


def _rap_map(src: Path, dst: Path, reverse: bool, iteration: int | None = None) -> ConversionReport:
    if reverse:
        state = load_checkpoint_weights(src)
        folder = write_map_folder(state, dst, iteration)
        return ConversionReport(
            folder,
            [key for key in state if key.startswith(("splats.", "appearance.", "placement."))],
            notes=["cfg_args and cameras.json stay those of the training"],
        )
    state, model = read_map_folder(src, iteration)
    with DefaultScope.overwrite_default_scope("mmcity"):
        check_matches_model(MODELS.build(dict(model)), state, str(src))
    write_torch(dst, {"state_dict": state, "meta": {}})
    config = dst.with_suffix(".py")
    write_text(config, f"# The scene of {dst.name}.\ndefault_scope = 'mmcity'\nmodel = {model!r}\n")
    notes = [f"{len(state['splats.means'])} Gaussians; config {config}"]
    return ConversionReport(dst, list(state), notes=notes)


def _streamvggt(
    src: Path, dst: Path, reverse: bool, config: str | os.PathLike = "streamvggt_1b"
) -> ConversionReport:
    weights = {k.removeprefix("module."): v for k, v in load_checkpoint_weights(src).items()}
    with torch.device("meta"):
        expected = _build(config, leave_out=("teacher", "teacher_checkpoint")).state_dict()
    _check(weights, expected, src, config)
    meta = {"source": "converted", "config": str(config)}
    write_torch(dst, weights if reverse else {"state_dict": weights, "meta": meta})
    numbers = sum(value.numel() for value in weights.values())
    return ConversionReport(dst, list(weights), notes=[f"{numbers:,} numbers"])


_CONVERTERS = {
    "citygsx": _citygsx,
    "dynamiccity": _dynamiccity,
    "gausstr": _gausstr,
    "rap": _rap,
    "rap-map": _rap_map,
    "streamvggt": _streamvggt,
}
