"""Shared parts of all formats of Gaussians: entry in the table, checks, refusals, losses."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmcity.structures.axes import convert_axes, is_right_handed, right_handed_twin
from mmcity.structures.gaussians import Gaussians
from mmcity.structures.spherical_harmonics import SH_C0
from mmcity.structures.splat_info import SplatInfo

from .ply import PlyFormatError

#: Gaussians of one file; more have no number of 32 bits.
MOST_GAUSSIANS = 2**31 - 1
#: Bytes at the beginning of a file from which its format is told.
HEAD_BYTES = 1 << 16
#: Opacity that eight bits round to 0.
_UNSEEN = 1 / 510


class GaussianFileError(PlyFormatError):
    """A file that holds no Gaussians, or that is broken."""


@dataclass(frozen=True)
class GaussianFormat:
    """One format of Gaussians, an entry of the table in :mod:`.gaussian_files`.

    Attributes:
        name: As messages and :class:`SplatInfo` name it.
        suffixes: Ends of names, in lower case; one without a dot is a whole name, such as
            ``meta.json``. The longest that fits counts.
        read: ``(path, drop_invalid=False) -> (Gaussians, SplatInfo)``, in the axes of the file;
            None for a format that is only written. One that takes ``lod`` besides holds several
            levels of detail.
        write: ``(gaussians, path, *, info=None, **own options) -> SplatInfo``; None for a format
            that is only read.
        sniff: ``(path, head) -> bool``: whether a file is of the format, from its first
            ``HEAD_BYTES``. Defaults to None: only the name tells.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., tuple[Gaussians, SplatInfo]] | None = None
    write: Callable[..., SplatInfo] | None = None
    sniff: Callable[[Path, bytes], bool] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the writer's own options."""
        if self.write is None:
            return ()
        return tuple(name for name in inspect.signature(self.write).parameters if name != "info")[
            2:
        ]

    @property
    def has_levels(self) -> bool:
        """Whether a file may hold several levels of detail."""
        return self.read is not None and "lod" in inspect.signature(self.read).parameters


def check_count(path: str | os.PathLike, count: int) -> None:
    """Refuse a number of Gaussians that no file can hold, before memory is taken for them.

    Raises:
        GaussianFileError: If there is none, or too many.
    """
    if count <= 0:
        raise GaussianFileError(f"{path}: expected Gaussians, got none: export the scene again")
    if count > MOST_GAUSSIANS:
        raise GaussianFileError(
            f"{path}: expected at most {MOST_GAUSSIANS} Gaussians, got {count} (truncated or "
            "corrupt): export the scene again"
        )


def check_bytes(path: str | os.PathLike, part: str, expected: int, there: int) -> None:
    """Refuse a part of a file that is shorter or longer than the file itself says.

    Args:
        path: The file.
        part: What it is, for the message.
        expected: Bytes that the header makes of it.
        there: Bytes that there are.

    Raises:
        GaussianFileError: If they differ.
    """
    if expected != there:
        what = "truncated" if there < expected else "longer than its header says, or corrupt"
        raise GaussianFileError(
            f"{path}: expected {expected} bytes for {part}, got {there} ({what}): export the scene "
            "again"
        )


def keep_valid(
    gaussians: Gaussians, path: str | os.PathLike, drop_invalid: bool = False
) -> Gaussians:
    """The Gaussians of a file whose values are all finite; every reader ends with it.

    Rotations of length 0 become the identity, with a warning that counts them.

    Args:
        gaussians: As read.
        path: Where from, for messages.
        drop_invalid: Leave the others out, with a warning that counts them. Defaults to False:
            they are an error.

    Raises:
        GaussianFileError: If there are others, and they are not to be dropped, or if all are; or
            if there is none at all.
    """
    check_count(path, len(gaussians))
    bad = ~gaussians.is_finite
    count = int(bad.sum())
    if count:
        found = f"{count} of {len(gaussians)} Gaussians with NaN or infinity"
        if not drop_invalid or count == len(gaussians):
            raise GaussianFileError(
                f"{path}: expected finite values, got {found}, first in row "
                f"{int(bad.nonzero()[0, 0])}: what to do: write a file without them (`mmcity "
                "export SOURCE TARGET --drop-invalid`, drop_invalid=True in Python)"
            )
        print_log(f"{path}: {found} are left out", "current", 30)
        gaussians = gaussians[~bad]
    unturned = (gaussians.quats == 0).all(1)
    if bool(unturned.any()):
        print_log(
            f"{path}: {int(unturned.sum())} of {len(gaussians)} rotations have length 0 and count "
            "as none",
            "current",
            30,
        )
        identity = gaussians.quats.new_tensor([1.0, 0.0, 0.0, 0.0])
        gaussians.quats = torch.where(unturned[:, None], identity, gaussians.quats)
    return gaussians


def in_axes(
    gaussians: Gaussians,
    info: SplatInfo,
    path: str | os.PathLike,
    to: str | None = None,
    assume: str | None = None,
) -> tuple[Gaussians, SplatInfo]:
    """Gaussians of a file in the axes that are wanted.

    Args:
        gaussians: In the axes of the file.
        info: What the file says.
        path: The file.
        to: Name of :data:`~mmcity.structures.axes.AXES`. Defaults to None: the file's own; only
            a left-handed scene, which would be a mirror image, is turned to its right-handed twin.
        assume: Axes of a file that does not say its own. Defaults to None: not known.

    Raises:
        ValueError: If ``to`` is wanted of a file that does not say its axes, and ``assume`` does
            not either.
    """
    if assume is not None and info.axes not in (None, assume):
        print_log(f"{path}: axes are {info.axes}, as it says, not {assume}", "current", 30)
    source = info.axes or assume
    if source is None:
        if to is not None:
            raise ValueError(
                f"{path} does not say its axes: give assume=... (`--assume-axes`), one of "
                "mmcity.structures.AXES"
            )
        return gaussians, info
    target = to or (source if is_right_handed(source) else right_handed_twin(source))
    return convert_axes(gaussians, source, target), replace(info, axes=target)


def color_coefficients(gaussians: Gaussians, caller: str) -> torch.Tensor:
    """SH of the colour ``(N, K, 3)``: their own, or of three features that hold a plain colour.

    Raises:
        ValueError: If they have neither; names ``caller``.
    """
    sh, features = gaussians.sh, gaussians.features
    if sh is not None:
        return sh
    if features is None or features.shape[1] != 3:
        raise ValueError(f"{caller}: expected SH or three features as colour, got neither")
    return ((features - 0.5) / SH_C0)[:, None]


def cut_sh(sh: torch.Tensor, degree: int, most: int) -> tuple[torch.Tensor, tuple[str, ...]]:
    """SH ``(N, K, 3)`` up to a degree, and what is lost thereby."""
    if degree <= most:
        return sh, ()
    return sh[:, : (most + 1) ** 2], (f"SH cut from degree {degree} to {most}",)


def unseen_loss(opacities: torch.Tensor) -> tuple[str, ...]:
    """Loss of Gaussians whose opacity, of ``(N,)``, eight bits round to 0."""
    count = int((opacities < _UNSEEN).sum())
    return (f"{count} Gaussians below opacity 1/510 become invisible",) if count else ()


def for_writing(
    gaussians: Gaussians,
    path: str | os.PathLike,
    info: SplatInfo | None = None,
    *,
    sh_degree: int = 3,
    models: tuple[str, ...] = ("default", "antialiased", "2dgs"),
    holds_axes: bool = False,
) -> tuple[Gaussians, torch.Tensor, SplatInfo]:
    """Gaussians as the writer of a format takes them, and what it says of them already.

    Args:
        gaussians (Gaussians): With SH, or three features as colour.
        path: File to be written, for messages.
        info: What is known of the scene. Defaults to None: nothing.
        sh_degree: Highest that the format holds. Defaults to 3.
        models: Renderers that the format can name. Defaults to all.
        holds_axes: Whether the format says its axes. Defaults to False.

    Returns:
        Float32 on the CPU without features; their SH ``(N, K, 3)`` up to that degree; the info
        with model, axes, degree and losses so far, without format and generator.

    Raises:
        ValueError: If there is none, no colour, or a value that is not finite.
    """
    g = gaussians.detach().to("cpu", torch.float32)
    if not len(g):
        raise ValueError(f"{path}: expected at least one Gaussian, got none")
    bad = int((~g.is_finite).sum())
    if bad:
        raise ValueError(
            f"{path}: expected finite values, got {bad} of {len(g)} Gaussians with NaN or "
            "infinity: leave them out (`mmcity export --drop-invalid`)"
        )
    info = info or SplatInfo()
    sh = color_coefficients(g, str(path))
    degree = int(round(sh.shape[1] ** 0.5)) - 1
    sh, lost = cut_sh(sh, degree, sh_degree)
    if g.features is not None and g.sh0 is not None:
        lost += ("features dropped",)
    model = info.model if info.model in models else "default"
    if model != info.model:
        lost += (f"{info.model} tag dropped",)
    axes = info.axes if holds_axes else None
    if axes != info.axes:
        lost += (f"axes {info.axes} not said",)
    g = Gaussians(
        g.means, g.quats, g.scales, g.opacities, sh[:, :1], sh[:, 1:], frame=gaussians.frame
    )
    said: dict[str, Any] = dict(model=model, sh_degree=min(degree, sh_degree), lost=lost)
    return g, sh, replace(info, axes=axes, format="", generator=None, **said)


def write_as(format: GaussianFormat, gaussians: Gaussians, path: Path, **options: Any) -> SplatInfo:
    """Write with one format; refuses options that it has not.

    Raises:
        ValueError: On an option of another format.
    """
    unknown = sorted(set(options) - {"info", *format.options})
    if unknown or format.write is None:
        raise ValueError(
            f"{path}: expected options of {format.name} ({', '.join(format.options) or 'none'}), "
            f"got {', '.join(unknown)}: leave them out"
        )
    return format.write(gaussians, path, **options)
