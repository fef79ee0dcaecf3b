"""Files of text prototypes and of vocabularies.

A vocabulary is a YAML file that a user edits::

    classes:                # label of Occ3D, and the prompts that mean it
      - {label: 4, prompts: [car, van]}
      - {label: 17, prompts: [sky]}
    temperature: 1.0        # everything below is optional
    density_threshold: 0.04
    class_thresholds: {7: 0.02}
"""

from dataclasses import fields
from pathlib import Path

import torch
import yaml
from torch import Tensor

from mmcity.utils.fileio import read_arrays, read_text, write_text
from mmcity.utils.torch_files import read_torch, write_torch

from .labelling import Vocabulary

_LISTS = ("prompts", "groups", "labels")


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Read a vocabulary.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no vocabulary; the message says what is wrong.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got other text ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ValueError(f"{path}: expected a list 'classes' of {{label, prompts}}")
    options = {key: value for key, value in content.items() if key != "classes"}
    known = {field.name for field in fields(Vocabulary)} - set(_LISTS)
    if set(options) - known:
        raise ValueError(f"{path}: expected keys of {known}, got {sorted(set(options) - known)}")
    prompts, groups, labels = [], [], []
    for row in content["classes"]:
        if not isinstance(row, dict) or set(row) != {"label", "prompts"} or not row["prompts"]:
            raise ValueError(f"{path}: expected a class as {{label: N, prompts: [...]}}, got {row}")
        words = row["prompts"]
        # YAML takes no, on and 12 without quotes for other things than words.
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(
                f"{path}: expected a list of prompts, got {words!r}: put words that YAML takes for "
                "values (no, on, 12) in quotes"
            )
        if type(row["label"]) is not int:
            raise ValueError(f"{path}: expected a label that is a whole number, got {row}")
        prompts += words
        groups.append(len(words))
        labels.append(row["label"])
    return Vocabulary(prompts=prompts, groups=groups, labels=labels, **options)


def save_vocabulary(
    path: str | Path,
    vocabulary: Vocabulary,
    density_threshold: float | None = None,
    class_thresholds: dict[int, float] | None = None,
) -> None:
    """Write a vocabulary for :func:`load_vocabulary`, with other thresholds where given."""
    prompts, classes = iter(vocabulary.prompts), []
    for label, size in zip(vocabulary.labels, vocabulary.groups):
        classes.append({"label": int(label), "prompts": [next(prompts) for _ in range(size)]})
    content = {"classes": classes}
    for field in fields(Vocabulary):
        if field.name not in _LISTS:
            content[field.name] = getattr(vocabulary, field.name)
    if density_threshold is not None:
        content["density_threshold"] = float(density_threshold)
    if class_thresholds is not None:
        content["class_thresholds"] = {int(k): float(v) for k, v in class_thresholds.items()}
    write_text(path, yaml.safe_dump(content, sort_keys=False))


def load_prototypes(path: str | Path) -> tuple[Tensor, Vocabulary | None]:
    """Read text prototypes.

    Args:
        path: ``.pth`` or ``.pt`` with a bare tensor ``(C, P)`` or a dict of ``embeds``,
            ``prompts``, ``groups`` and ``labels``; ``.npz`` with such arrays; ``.npy``.

    Returns:
        float32 ``(C, P)``, and the vocabulary where the file names one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    path = Path(path)
    if path.suffix in (".npy", ".npz"):
        content = read_arrays(path)
        content = content["data"] if path.suffix == ".npy" else content
    else:
        content = read_torch(path)
    vocabulary = None
    if isinstance(content, dict):
        missing = {"embeds", *_LISTS} - set(content)
        if missing:
            raise ValueError(f"{path}: expected {sorted(missing)} too, got {sorted(content)}")
        vocabulary = Vocabulary(
            prompts=[str(p) for p in content["prompts"]],
            groups=[int(n) for n in content["groups"]],
            labels=[int(n) for n in content["labels"]],
        )
        content = content["embeds"]
    embeds = torch.as_tensor(content).float()
    if embeds.dim() != 2:
        raise ValueError(f"{path}: expected prototypes (channels, prompts), got {embeds.shape}")
    if vocabulary is not None and embeds.shape[1] != len(vocabulary.prompts):
        raise ValueError(
            f"{path}: expected {len(vocabulary.prompts)} prototypes, got {embeds.shape[1]}"
        )
    return embeds, vocabulary


def save_prototypes(path: str | Path, embeds: Tensor, vocabulary: Vocabulary) -> None:
    """Write prototypes ``(C, P)`` and their words for :func:`load_prototypes` (``.pth``)."""
    content = {key: list(getattr(vocabulary, key)) for key in _LISTS}
    write_torch(path, {"embeds": embeds.float().cpu(), **content})
