"""Splits of a scene's images into training and test images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import read_table, visible, write_text
from mmcity.utils.images import list_images
from mmcity.utils.picture_names import check_once, match_names, picture_name, read_names

#: Names of the parts of a scene; ``val`` and ``test`` are the same images. ``selection`` is the
#: part of the training images that chooses among models, see ``selection_every``.
SPLITS = ("train", "val", "test", "all", "selection")
#: ``auto`` takes the first of the next three whose file or folder exists, else ``every_n``.
SPLIT_RULES = ("auto", "tsv", "list", "val_folder", "every_n", "fraction", "none")


def _find(root: Path, rule: str, file: str | None) -> Path | None:
    if file is not None:
        path = root / file
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected the split file or folder, found none")
        return path
    if rule == "tsv":
        found = visible(sorted(root.glob("*.tsv")))
        if len(found) > 1:
            raise ValueError(f"{root}: expected one *.tsv, got {[p.name for p in found]}")
        return found[0] if found else None
    path = root / {"list": "list_test.txt", "val_folder": "val/rgbs"}[rule]
    return path if path.exists() else None


def _from_tsv(path: Path) -> tuple[set[str], set[str]]:
    """Test names and train names of a table with the columns filename and split."""
    names: dict[str, set[str]] = {"test": set(), "train": set()}
    rows = read_table(path, ("filename", "split"), delimiters="\t")
    for number, row in rows:
        part, name = row["split"], row["filename"]
        if not name:
            raise ValueError(f"{path}: expected columns filename and split, line {number}: {row}")
        if part in names:
            names[part].add(name)
        elif part:
            raise ValueError(f"{path}: expected split train or test in line {number}, got {part!r}")
    check_once((row["filename"] for _, row in rows), path)
    return names["test"], names["train"]


def says_split(root: Path) -> bool:
    """Whether a scene folder says itself which images are held out."""
    return any(_find(root, rule, None) for rule in ("tsv", "list", "val_folder"))


def write_held_out(root: Path, names: Sequence[str], every: int) -> None:
    """Hold out every n-th image by ``list_test.txt``; none is written if that is none.

    Args:
        root: Scene folder.
        names: Image names, sorted.
        every: From the middle of the first n on; 0 holds out none.
    """
    held = names[every // 2 :: every] if every else []
    if held:
        write_text(root / "list_test.txt", "".join(f"{name}\n" for name in held))


def held_out(
    names: Sequence[str],
    root: Path,
    rule: str = "auto",
    file: str | None = None,
    every_n: int = 8,
    offset: int = 0,
    fraction: float = 1.0,
) -> tuple[list[bool], list[bool], str]:
    """Decide for each image whether it is held out.

    Args:
        names (Sequence[str]): Image names, sorted.
        root (Path): Scene folder.
        rule (str): One of :data:`SPLIT_RULES`. ``list``: the names in ``list_test.txt``;
            ``tsv``: column ``split`` of a ``*.tsv`` (other images belong to no part);
            ``val_folder``: the images that exist in ``val/rgbs``; ``every_n``:
            every n-th from ``offset``; ``fraction``: all but an evenly spread share of training
            images; ``none``: nothing.
        file (str, optional): File or folder in place of the usual one, relative to ``root``.
        every_n (int): Defaults to 8.
        offset (int): Defaults to 0.
        fraction (float): Share of training images of the rule ``fraction``, in (0, 1]. Defaults
            to 1.

    Returns:
        tuple[list[bool], list[bool], str]: Whether each image is a test image, whether it is
        a training image, and a description of what decided.

    Raises:
        FileNotFoundError: If a rule was asked for whose file does not exist.
        ValueError: If a file holds no name of the scene, one of several images, or is malformed.
    """
    check_choice("split_by", rule, SPLIT_RULES)
    names = list(names)
    if rule == "auto":
        if file is not None:
            raise ValueError(
                "split_by: expected 'tsv', 'list' or 'val_folder' with a file, got 'auto'"
            )
        rule = next((r for r in ("tsv", "list", "val_folder") if _find(root, r, None)), "every_n")
    if rule == "none":
        return [False] * len(names), [True] * len(names), "no image held out"
    if rule == "every_n":
        if every_n < 2 or not 0 <= offset < every_n:
            raise ValueError(f"expected every_n >= 2 > offset >= 0, got {every_n}, {offset}")
        test = [row % every_n == offset for row in range(len(names))]
        return test, [not t for t in test], f"every {every_n}th image from {offset} held out"
    if rule == "fraction":
        if not 0 < fraction <= 1 or int(len(names) * fraction) < 1:
            raise ValueError(f"train_fraction: expected a share that keeps images, got {fraction}")
        kept = {int(x) for x in np.linspace(0, len(names) - 1, int(len(names) * fraction))}
        train = [row in kept for row in range(len(names))]
        return [not t for t in train], train, f"{sum(train)} images spread over all train"
    path = _find(root, rule, file)
    if path is None:
        raise FileNotFoundError(
            f"{root}: expected "
            f"{ {'tsv': '*.tsv', 'list': 'list_test.txt', 'val_folder': 'val/rgbs/'}[rule] } for "
            f"split_by='{rule}', found none: add it, or choose split_by='every_n'"
        )
    known = set(names)
    trained: set[str] | None = None
    if rule == "val_folder":
        wanted = {str(p.relative_to(path)) for p in list_images(path, recursive=True)}
        found = match_names(wanted, names, str(path))
    else:
        wanted = set(read_names(path)) if rule == "list" else set()
        if rule == "tsv":
            wanted, trained = _from_tsv(path)
        found = {entry: picture_name(entry) for entry in wanted if picture_name(entry) in known}
    tests = set(found.values())
    test = [name in tests for name in names]
    train = [not t for t in test]
    if trained is not None:
        trains = set(map(picture_name, trained))
        train = [name in trains for name in names]
    unknown = wanted - set(found)
    if not any(test):
        raise ValueError(
            f"{path}: expected names of images of the scene, such as {names[:3]}, "
            f"got {sorted(wanted)[:3]} ({len(wanted)} names, none known)"
        )
    if unknown:
        print_log(
            f"{path}: {len(unknown)} of {len(wanted)} test images are not in the model and are "
            f"left out, e.g. {sorted(unknown)[:3]}",
            logger="current",
            level=30,
        )
    return (
        test,
        train,
        f"{sum(test)} images held out by {path.name if rule != 'val_folder' else 'val/rgbs'}",
    )
