"""USD files of Gaussians: prims ``ParticleField3DGaussianSplat`` of OpenUSD 26.03 and later.

All of it goes through ``usd-core`` (``requirements/usd.txt``).
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log

from mmcity.structures.axes import UP_AXES, convert_axes
from mmcity.structures.gaussian_lod import box_of
from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import FRAME_KEY, SceneFrame
from mmcity.structures.spherical_harmonics import SH_C0
from mmcity.structures.splat_info import SplatInfo
from mmcity.utils.checks import check_choice
from mmcity.utils.dependencies import import_library
from mmcity.utils.fileio import atomic_path, damage_told, path_below, scratch_folder
from mmcity.version import __version__

from .archives import open_archive
from .gaussian_format import GaussianFileError, GaussianFormat, for_writing, in_axes, keep_valid
from .gaussians_gltf import joined, placed

_TYPE = "ParticleField3DGaussianSplat"
_DEGREE = "radiance:sphericalHarmonicsDegree"
_COEFFICIENTS = "radiance:sphericalHarmonicsCoefficients"
#: Of the schema, where a file says none.
_DEFAULT_DEGREE = 3
_MOST_DEGREE = 3
_MOST_LAYERS = 64
#: A converter that says ``upAxis = "Y"`` of whatever it converts.
_GUESSES_AXES = "gsplat2USD"
#: Reads all values of a layer, or of the stage that it is the root of, within bounded memory:
#: usd-core ends the process at some damaged files, of which this finds most.
_PROBE = """
import os, resource, sys
path, kind = sys.argv[1:]
most = (2 << 30) + 64 * os.path.getsize(path)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from pxr import Sdf, Usd, UsdGeom
if kind == "layer":
    layer = Sdf.Layer.OpenAsAnonymous(path)
    def read(place):
        spec = layer.GetObjectAtPath(place)
        if isinstance(spec, Sdf.AttributeSpec):
            spec.default
    if layer:
        layer.Traverse(Sdf.Path.absoluteRootPath, read)
else:
    now, places = Usd.TimeCode.EarliestTime(), UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
    for prim in Usd.Stage.Open(path).Traverse():
        places.GetLocalToWorldTransform(prim)
        for attribute in prim.GetAttributes():
            attribute.Get(now)
"""


def _usd(path: str | os.PathLike, name: str) -> Any:
    return import_library(f"pxr.{name}", str(path), "pip install usd-core")


def read_usd_splats(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read all Gaussians of a USD file, each prim with the transforms of its parents.

    Args:
        path: ``.usda``, ``.usdc``, ``.usd`` or ``.usdz``.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        to: Axes to return. Defaults to None: those of the file.
        assume: Axes of a file that does not say them. Defaults to None: not known.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, or holds no Gaussians.
        DependencyError: If usd-core is missing.
        ValueError: If axes are wanted without saying which the file has.
    """
    return in_axes(*_load_usd(path, drop_invalid), path, to, assume)[0]


def _load_usd(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    Usd, UsdGeom = (_usd(path, name) for name in ("Usd", "UsdGeom"))
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
        open_archive(path).close()
    with damage_told(path, "a USD file", GaussianFileError):
        layer = _checked_layer(path, is_zip)
        _probe(path, "stage")
        stage = Usd.Stage.Open(layer)
        said = dict(layer.customLayerData)
        frame = SceneFrame.from_line(said[FRAME_KEY], path) if FRAME_KEY in said else None
        unit = UsdGeom.GetStageMetersPerUnit(stage)
        if unit != 1 and stage.HasAuthoredMetadata("metersPerUnit"):
            print_log(f"{path}: lengths stay in units of {unit:g} m", "current", 20)
        axes = None
        if stage.HasAuthoredMetadata("upAxis") and _GUESSES_AXES not in layer.comment:
            axes = UP_AXES[UsdGeom.GetStageUpAxis(stage).lower()]
        places = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
        parts = []
        for prim in stage.Traverse():
            if prim.GetTypeName() == _TYPE:
                # Vectors are rows there.
                to_world = np.array(places.GetLocalToWorldTransform(prim)).T
                parts.append(placed(_decode(prim, path), to_world, path))
    if not parts:
        raise GaussianFileError(f"{path}: expected a prim {_TYPE}, got none")
    out = joined(parts)
    out.frame = frame
    info = SplatInfo(
        axes=axes,
        format=USD.name,
        sh_degree=out.sh_degree or 0,
        generator=said.get("generator"),
    )
    return keep_valid(out, path, drop_invalid), info


def _probe(path: str | os.PathLike, kind: str) -> None:
    """Read a file in another process, and refuse it if that does not survive."""
    command = [sys.executable, "-c", _PROBE, str(path), kind]
    if subprocess.run(command, capture_output=True).returncode < 0:
        raise GaussianFileError(
            f"{path}: expected a USD file, got a damaged one that usd-core cannot read: copy it "
            "again"
        )


def _open_layer(path: str | os.PathLike) -> Any:
    """The layer of a file; None if it is none."""
    Sdf = _usd(path, "Sdf")
    _probe(path, "layer")
    return Sdf.Layer.OpenAsAnonymous(str(path))


def _checked_layer(path: str | os.PathLike, is_zip: bool) -> Any:
    """The layer of a file, none of whose parts lies outside of its folder."""
    Sdf = _usd(path, "Sdf")
    root = _open_layer(path)
    if root is None:
        raise GaussianFileError(f"{path}: expected a USD file, got another or a damaged one")
    if is_zip:
        return Sdf.Layer.FindOrOpen(str(path))
    pending, seen = [(Path(path).parent, root)], 0
    while pending:
        folder, layer = pending.pop()
        seen += 1
        for name in sorted(layer.GetCompositionAssetDependencies()):
            below = path_below(Path(path).parent, os.path.relpath(folder / name, Path(path).parent))
            if seen + len(pending) > _MOST_LAYERS:
                raise GaussianFileError(f"{path}: expected at most {_MOST_LAYERS} layers")
            if below.is_file():
                pending.append((below.parent, _open_layer(below)))
    layer = Sdf.Layer.FindOrOpen(str(path))
    layer.Reload()  # USD keeps what it has read
    return layer


def _decode(prim: Any, path: str | os.PathLike) -> Gaussians:
    Usd = _usd(path, "Usd")

    def values(name: str, columns: int) -> np.ndarray | None:
        """``(n, columns)`` float32 of an attribute or of its twin in half precision."""
        for twin in (name, f"{name}h"):
            attribute = prim.GetAttribute(twin)
            found = attribute.Get(Usd.TimeCode.EarliestTime()) if attribute else None
            if found is not None and len(found):
                return np.array(found, np.float32).reshape(-1, columns)
        return None

    means = values("positions", 3)
    where = f"{path}: {prim.GetPath()}"
    if means is None:
        raise GaussianFileError(f"{where}: expected positions, got none")
    count = len(means)
    degree = prim.GetAttribute(_DEGREE)
    degree = degree.Get() if degree and degree.HasAuthoredValue() else _DEFAULT_DEGREE

    def of_each(name: str, columns: int, default: list[float] | None) -> np.ndarray:
        found = values(name, columns)
        if found is None and default is not None:
            return np.tile(np.array(default, np.float32), (count, 1))
        if found is None or len(found) != count:
            got = "none" if found is None else len(found)
            raise GaussianFileError(f"{where}: expected {count} {name}, got {got}")
        return found

    sh = values(_COEFFICIENTS, 3)
    if sh is None:
        colors = values("primvars:displayColor", 3)
        if colors is None or len(colors) not in (1, count):
            raise GaussianFileError(f"{where}: expected {_COEFFICIENTS}, got none")
        sh, degree = np.tile((colors - 0.5) / SH_C0, (count // len(colors), 1)), 0
    rows = (degree + 1) ** 2
    if not 0 <= degree <= _MOST_DEGREE or len(sh) != count * rows:
        raise GaussianFileError(
            f"{where}: expected {rows} SH coefficients of degree {degree} for each of {count} "
            f"Gaussians, got {len(sh)}"
        )
    table = torch.from_numpy(sh.astype(np.float32)).reshape(count, rows, 3)
    return Gaussians(
        means=torch.from_numpy(means),
        quats=torch.from_numpy(of_each("orientations", 4, [0, 0, 0, 1])[:, [3, 0, 1, 2]].copy()),
        scales=torch.from_numpy(of_each("scales", 3, None)),
        opacities=torch.from_numpy(of_each("opacities", 1, [1]))[:, 0],
        sh0=table[:, :1],
        shN=table[:, 1:],
    )


def write_usd_splats(
    gaussians: Gaussians,
    path: str | os.PathLike,
    *,
    info: SplatInfo | None = None,
    up: str = "z",
) -> SplatInfo:
    """Write a USD file with one prim of Gaussians, whose stage has y or z up.

    Args:
        gaussians: With SH, of which degrees up to 3 are kept, or three features as colour.
        path: ``.usda``, ``.usdc``, ``.usd`` or ``.usdz``; moved into place when whole.
        info: What is known of the scene; where it says axes other than RFU and RUB, the scene is
            turned to these. Defaults to None: nothing.
        up: Axis that points up, ``z``, ``y`` or ``-y``, where ``info`` does not say the axes.
            Defaults to ``z``.

    Raises:
        ValueError: If there is none, no colour, or a value that is not finite.
        DependencyError: If usd-core is missing.
    """
    path = Path(path)
    Sdf, UsdUtils = (_usd(path, name) for name in ("Sdf", "UsdUtils"))
    check_choice("up", up, UP_AXES)
    g, _, said = for_writing(gaussians, path, info, models=("default",), holds_axes=True)
    source = said.axes or UP_AXES[up]
    axes = UP_AXES["z"] if source[2] in "UD" else UP_AXES["y"]
    g = convert_axes(g, source, axes)
    stage = _stage(g, path, axes)
    layer = stage.GetRootLayer()
    if path.suffix.lower() == ".usdz":
        with scratch_folder(path) as scratch, atomic_path(path) as temporary:
            layer.Export(str(scratch / "scene.usdc"))
            if not UsdUtils.CreateNewUsdzPackage(
                Sdf.AssetPath(str(scratch / "scene.usdc")), str(temporary)
            ):
                raise OSError(f"{path}: USD could not write the package: look at its messages")
    else:
        with atomic_path(path) as temporary:
            layer.Export(str(temporary))
    return replace(said, axes=axes, format=USD.name, generator=f"mmcity {__version__}")


def _stage(g: Gaussians, path: Path, axes: str) -> Any:
    """The file in memory."""
    Usd, UsdGeom, Sdf, Vt = (_usd(path, name) for name in ("Usd", "UsdGeom", "Sdf", "Vt"))
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, "Z" if axes == UP_AXES["z"] else "Y")
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    notes = {"generator": f"mmcity {__version__}"}
    if g.frame is not None and not g.frame.is_identity:
        notes[FRAME_KEY] = g.frame.to_line()
    stage.GetRootLayer().customLayerData = notes
    prim = stage.DefinePrim("/scene", _TYPE)
    stage.SetDefaultPrim(prim)
    types = Sdf.ValueTypeNames

    def author(name: str, kind: Any, value: Any, **metadata: Any) -> None:
        uniform = name.endswith(("Degree", "Hint"))
        variability = Sdf.VariabilityUniform if uniform else Sdf.VariabilityVarying
        attribute = prim.CreateAttribute(name, kind, False, variability)
        attribute.Set(value)
        for key, said in metadata.items():
            attribute.SetMetadata(key, said)

    def vectors(values: torch.Tensor) -> Any:
        return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values.reshape(-1, 3).numpy()))

    assert g.sh is not None and g.sh_degree is not None and g.colors is not None  # of for_writing
    quats = F.normalize(g.quats.double(), dim=1)[:, [1, 2, 3, 0]].float()
    author("positions", types.Point3fArray, vectors(g.means))
    author("scales", types.Float3Array, vectors(g.scales))
    author("orientations", types.QuatfArray, Vt.QuatfArray.FromNumpy(quats.contiguous().numpy()))
    author("opacities", types.FloatArray, Vt.FloatArray.FromNumpy(g.opacities.numpy()))
    author(_DEGREE, types.Int, g.sh_degree)
    author(
        _COEFFICIENTS, types.Float3Array, vectors(g.sh),
        elementSize=(g.sh_degree + 1) ** 2, interpolation="vertex",
    )  # fmt: skip
    author("projectionModeHint", types.Token, "perspective")
    author("sortingModeHint", types.Token, "zDepth")
    author("extent", types.Float3Array, vectors(box_of(g)))
    author(
        "primvars:displayColor", types.Color3fArray, vectors(g.colors.clamp(0, 1)),
        interpolation="vertex",
    )  # fmt: skip
    return stage


def read_usd_frame(path: str | os.PathLike) -> SceneFrame | None:
    """Frame that a file notes, or None."""
    layer = _open_layer(path)
    said = {} if layer is None else dict(layer.customLayerData)
    return SceneFrame.from_line(said[FRAME_KEY], path) if FRAME_KEY in said else None


def _is_usd(path: Path, head: bytes) -> bool:
    if head.startswith(b"PK\x03\x04"):  # the name of the first member
        length = int.from_bytes(head[26:28], "little")
        return Path(os.fsdecode(head[30 : 30 + length])).suffix.startswith(".usd")
    return head.startswith((b"#usda", b"PXR-USDC"))


USD = GaussianFormat(
    "usd", (".usda", ".usdc", ".usd", ".usdz"), _load_usd, write_usd_splats, _is_usd
)
