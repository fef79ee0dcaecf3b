"""Facts about a file of Gaussians."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmcity.structures import GaussianFileError, read_gaussian_file
from mmcity.structures.io.gaussian_files import find_gaussian_file
from mmcity.utils.fileio import to_json, visible


@dataclass(frozen=True)
class SceneFacts:
    """Facts about a file of Gaussians.

    Attributes:
        path: The file.
        size: Bytes; of a format of several files those of all.
        format: Name of the format and its version.
        count: Number of Gaussians, without those that are not finite.
        sh_degree: Of the colours.
        axes: Name of :data:`~mmcity.structures.axes.AXES`; None where the file does not say.
        model: Renderer that the scene was trained with.
        color_space: ``srgb`` or ``linear``.
        generator: Program that wrote the file; None where it does not say.
        box: Least and greatest coordinates of the means.
        is_finite: Whether all values are finite.
        frame: Place in the world, as ``frame.json`` has it; None where the file does not say.
        extras: What the format holds besides.
    """

    path: str
    size: int
    format: str
    count: int
    sh_degree: int
    axes: str | None
    model: str
    color_space: str
    generator: str | None
    box: tuple[list[float], list[float]]
    is_finite: bool
    frame: dict[str, Any] | None
    extras: dict[str, Any]

    def __str__(self) -> str:
        low, high = (", ".join(f"{value:.4g}" for value in corner) for corner in self.box)
        rows = {
            "format": self.format,
            "Gaussians": f"{self.count}, SH degree {self.sh_degree}",
            "values": "finite" if self.is_finite else "some are NaN or infinity",
            "box": f"({low}) to ({high})",
            "axes": self.axes or "not said",
            "renderer": self.model,
            "colours": self.color_space,
            "written by": self.generator or "not said",
            "frame": "none" if self.frame is None else self.frame["crs"] or "without a name",
            "size": f"{self.size / 1e6:.2f} MB, {self.size / max(self.count, 1):.1f} bytes each",
            **{name.replace("_", " "): str(value) for name, value in self.extras.items()},
        }
        return "\n".join([self.path, *(f"  {name:12s}{text}" for name, text in rows.items())])

    def to_json(self) -> str:
        """All of them as JSON."""
        return to_json(asdict(self), indent=2)


def describe_scene(source: str | os.PathLike, lod: int = 0) -> SceneFacts:
    """Read a file of Gaussians and tell what it holds.

    Args:
        source: The file, or a folder that holds one with an index.
        lod: Level of detail of a file that holds several. Defaults to 0, the finest.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, or holds other things.
    """
    is_finite = True
    try:
        gaussians, info = read_gaussian_file(source, lod=lod)
    except GaussianFileError:  # of values that are not finite; of damage it comes again
        gaussians, info = read_gaussian_file(source, lod=lod, drop_invalid=True)
        is_finite = False
    file = find_gaussian_file(source) or Path(source)
    is_folder = file.suffix.lower() == ".json"
    files = visible(sorted(file.parent.rglob("*"))) if is_folder else [file]
    return SceneFacts(
        path=str(source),
        size=sum(path.stat().st_size for path in files if path.is_file()),
        format=info.format,
        count=len(gaussians),
        sh_degree=info.sh_degree,
        axes=info.axes,
        model=info.model,
        color_space=info.color_space,
        generator=info.generator,
        box=(gaussians.means.amin(0).tolist(), gaussians.means.amax(0).tolist()),
        is_finite=is_finite,
        frame=None if gaussians.frame is None else gaussians.frame.to_dict(),
        extras=dict(info.extras),
    )
