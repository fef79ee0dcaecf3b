"""Place of a scene in the world, in double precision."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.utils.fileio import from_json, read_json, to_json, write_json

from .sim3 import Sim3

#: File of a scene folder that holds its frame.
FRAME_FILE = "frame.json"
#: Name of the frame in comments of PLY files and in the extras of glTF.
FRAME_KEY = "mmcity_frame"
_ORIGIN = (0.0, 0.0, 0.0)
_UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
#: Relative difference of what counts as one scale or rotation, which rounding can make.
_SAME = 1e-9
#: Relative difference that a few steps of arithmetic in double precision make.
_ROUNDING = 1e-12
#: Of a rotation in a file, whose numbers may be few.
_RIGID = 1e-6


@dataclass(frozen=True)
class SceneFrame:
    """A scene's place: ``world = origin + scale * rotation @ scene + translation``, in float64.

    Single precision resolves half a metre at the coordinates of a UTM grid. So scenes are kept
    about their own origin, and their frame says where that is.

    Attributes:
        crs (str): Coordinate reference system of the world: ``EPSG:n``, WKT, ``ENU`` (metres
            east, north and up of ``lla``), or empty where it is not known.
        origin (tuple): ``(3,)`` world units.
        lla (tuple | None): Latitude and longitude in degrees and height in metres of the zero
            of an ``ENU`` world.
        scale (float): World units per scene unit.
        rotation (tuple): ``(3, 3)`` rows of the turn from the scene to the world.
        translation (tuple): ``(3,)`` world units.
        unit (str): Of the world. Defaults to ``m``.

    Raises:
        ValueError: If numbers are not finite, the scale is not above 0, the rotation is none, a
            text is none, or ``lla`` is no place on the earth.
    """

    crs: str = ""
    origin: tuple[float, float, float] = _ORIGIN
    lla: tuple[float, float, float] | None = None
    scale: float = 1.0
    rotation: tuple[tuple[float, float, float], ...] = _UPRIGHT
    translation: tuple[float, float, float] = _ORIGIN
    unit: str = "m"

    def __post_init__(self) -> None:
        for name, shape in (("origin", (3,)), ("translation", (3,)), ("rotation", (3, 3))):
            object.__setattr__(self, name, _numbers(getattr(self, name), name, shape))
        if self.lla is not None:
            object.__setattr__(self, "lla", _numbers(self.lla, "lla", (3,)))
            if abs(self.lla[0]) > 90 or abs(self.lla[1]) > 360:
                raise ValueError(f"lla: expected latitude, longitude, height, got {self.lla}")
        object.__setattr__(self, "scale", _numbers(self.scale, "scale", ()))
        if not self.scale > 0:
            raise ValueError(f"scale: expected a number above 0, got {self.scale}")
        for name in ("crs", "unit"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: expected text, got {getattr(self, name)!r}")
        turn = np.array(self.rotation)
        if abs(turn @ turn.T - np.eye(3)).max() > _RIGID or np.linalg.det(turn) < 0:
            raise ValueError(f"rotation: expected a rotation matrix, got {turn.tolist()}")

    @classmethod
    def of_similarity(cls, similarity: Sim3, **place: Any) -> "SceneFrame":
        """A frame of the similarity from the scene to the world; ``place`` has crs, lla, ..."""
        return cls(
            scale=float(similarity.scale),
            rotation=_numbers(similarity.rotation.tolist(), "rotation", (3, 3)),
            translation=_numbers(similarity.translation.tolist(), "translation", (3,)),
            **place,
        )

    @property
    def is_identity(self) -> bool:
        """Whether the scene is the world itself, of which nothing more is known."""
        return self == SceneFrame()

    @property
    def matrix(self) -> np.ndarray:
        """``(4, 4)`` float64, from homogeneous points of the scene to the world."""
        out = np.eye(4)
        out[:3, :3] = self.scale * np.array(self.rotation)
        out[:3, 3] = np.add(self.origin, self.translation)
        return out

    @property
    def similarity(self) -> Sim3:
        """From the scene to the world, float64."""
        translation = torch.tensor(self.matrix[:3, 3])
        rotation = torch.tensor(self.rotation, dtype=torch.float64)
        return Sim3(torch.tensor(self.scale, dtype=torch.float64), rotation, translation)

    # ---- points and poses

    def scene_to_world(self, points: Any) -> np.ndarray:
        """World positions ``(..., 3)`` float64 of points ``(..., 3)`` of the scene."""
        turned = _array(points) @ np.array(self.rotation).T
        return self.scale * turned + self.translation + self.origin

    def world_to_scene(self, points: Any) -> np.ndarray:
        """Scene positions ``(..., 3)`` float64 of world points ``(..., 3)``."""
        offsets = _array(points) - self.origin - self.translation
        return offsets @ np.array(self.rotation) / self.scale

    def poses_to_world(self, cam_to_scene: Any) -> np.ndarray:
        """Rigid camera poses ``(..., 4, 4)`` float64 in the world, of poses in the scene."""
        out = _array(cam_to_scene).copy()
        out[..., :3, :3] = np.array(self.rotation) @ out[..., :3, :3]
        out[..., :3, 3] = self.scene_to_world(_array(cam_to_scene)[..., :3, 3])
        return out

    def poses_to_scene(self, cam_to_world: Any) -> np.ndarray:
        """Rigid camera poses ``(..., 4, 4)`` float64 in the scene, of poses in the world."""
        out = _array(cam_to_world).copy()
        out[..., :3, :3] = np.array(self.rotation).T @ out[..., :3, :3]
        out[..., :3, 3] = self.world_to_scene(_array(cam_to_world)[..., :3, 3])
        return out

    # ---- other frames

    def moved(self, similarity: Sim3) -> "SceneFrame":
        """The frame of the scene once a similarity has carried it; the world stays."""
        back = similarity.to("cpu", torch.float64).inverse()
        return self._followed(back)

    def shifted(self, offset: Any) -> "SceneFrame":
        """The frame of the scene from whose coordinates an offset ``(3,)`` was subtracted."""
        offset = _array(offset)
        if not offset.any():
            return self
        turned = self.scale * np.array(self.rotation) @ offset
        return self._replaced(origin=np.add(self.origin, turned))

    def relative_to(self, other: "SceneFrame") -> Sim3:
        """The similarity from this scene to that of another frame of the same world.

        Raises:
            ValueError: If the worlds have different reference systems.
        """
        if (self.crs, self.lla) != (other.crs, other.lla):
            raise ValueError(
                f"frame: expected one world, got {self.crs or 'none'} {self.lla or ''} and "
                f"{other.crs or 'none'} {other.lla or ''}"
            )
        back, turn = np.array(other.rotation).T, np.array(self.rotation)
        apart = np.subtract(self.origin, other.origin)
        apart = back @ (apart + np.subtract(self.translation, other.translation)) / other.scale
        return Sim3(
            torch.tensor(self.scale / other.scale, dtype=torch.float64),
            torch.from_numpy(back @ turn),
            torch.from_numpy(apart),
        )

    def shift_to(self, other: "SceneFrame") -> np.ndarray:
        """Point ``(3,)`` of this scene that is the origin of the same scene in another frame.

        A frame that says nothing, or only shifts, is that of a scene whose files had no frame yet
        or never had one: its world are the coordinates of this scene.

        Raises:
            ValueError: If the frames differ by more than a shift.
        """
        if other.is_identity:
            return np.zeros(3)
        if (self.crs, self.lla) == (other.crs, other.lla) and self._turns_as(other):
            return other.relative_to(self).translation.numpy()
        if other == SceneFrame(origin=other.origin, translation=other.translation):
            return other.matrix[:3, 3]
        raise ValueError(
            f"frame: expected frames that differ by a shift, got {self} and {other}: give a map "
            "and images of one scene, aligned alike"
        )

    def is_near(self, other: "SceneFrame") -> bool:
        """Whether both place a scene alike, to the rounding of their arithmetic."""
        size = max(1.0, abs(self.matrix).max())
        return bool(np.allclose(self.matrix, other.matrix, rtol=0, atol=_ROUNDING * size))

    def _turns_as(self, other: "SceneFrame") -> bool:
        first, second = self.matrix[:3, :3], other.matrix[:3, :3]
        return bool(np.allclose(first, second, rtol=0, atol=_SAME * self.scale))

    def _followed(self, before: Sim3) -> "SceneFrame":
        """This frame behind a similarity: ``world = self(before(scene))``."""
        turn = np.array(self.rotation)
        moved = self.scale * turn @ before.translation.numpy()
        return self._replaced(
            scale=self.scale * float(before.scale),
            rotation=turn @ before.rotation.numpy(),
            translation=self.translation + moved,
        )

    def _replaced(self, **values: Any) -> "SceneFrame":
        return SceneFrame(**{**vars(self), **values})

    # ---- files

    def to_dict(self) -> dict[str, Any]:
        """Content of ``frame.json``."""
        return {
            "version": 1,
            "crs": self.crs,
            "origin": list(self.origin),
            "lla": None if self.lla is None else list(self.lla),
            "scale": self.scale,
            "rotation": [list(row) for row in self.rotation],
            "translation": list(self.translation),
            "unit": self.unit,
        }

    def to_line(self) -> str:
        """The same as JSON on one line."""
        return to_json(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, content: Any, where: str | os.PathLike = "frame") -> "SceneFrame":
        """The frame of :meth:`to_dict`; keys that are left out have their defaults.

        Args:
            content: What was read.
            where: Names the source in messages.

        Raises:
            ValueError: If it is no frame, or of another version.
        """
        if not isinstance(content, dict) or "version" not in content:
            raise ValueError(f"{where}: expected a frame with its version, got {str(content)[:80]}")
        if content["version"] != 1:
            raise ValueError(
                f"{where}: expected a frame of version 1, got {content['version']!r}: read it with "
                "a newer version"
            )
        values = {name: value for name, value in content.items() if name != "version"}
        names = [field.name for field in fields(cls)]
        unknown = [name for name in values if name not in names]
        if unknown:
            raise ValueError(
                f"{where}: expected the keys version, {', '.join(names)}, got {unknown[:3]}: "
                "rename them, or take them out"
            )
        try:
            frame = cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if frame.crs == "ENU" and frame.lla is None:
            raise ValueError(
                f"{where}: expected lla, the place of the zero of ENU, got none: add it, or leave "
                "crs empty"
            )
        return frame

    @classmethod
    def from_line(cls, line: str, where: str | os.PathLike = "frame") -> "SceneFrame":
        """The frame of :meth:`to_line`; raises as :meth:`from_dict`."""
        return cls.from_dict(from_json(line, where), where)


def read_frame(path: str | os.PathLike) -> SceneFrame | None:
    """Frame of a JSON file, or of a folder's ``frame.json``; None where there is no such file.

    Raises:
        ValueError: If the file holds none.
    """
    path = Path(path)
    path = path / FRAME_FILE if path.is_dir() else path
    return SceneFrame.from_dict(read_json(path), path) if path.exists() else None


def write_frame(path: str | os.PathLike, frame: SceneFrame | None) -> None:
    """Write a frame as JSON; without one, no file of that name is left."""
    if frame is None or frame.is_identity:
        Path(path).unlink(missing_ok=True)
    else:
        write_json(path, frame.to_dict())


def sidecar(path: str | os.PathLike) -> Path:
    """``FILE.frame.json`` beside a file whose format has no place for a frame."""
    path = Path(path)
    return path.with_name(f"{path.name}.{FRAME_FILE}")


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _numbers(values: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Nested tuples of floats, or one float."""
    try:
        found = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: expected numbers, got {values!r}") from error
    if found.dtype.kind not in "fiu":  # text, truth values, null
        raise ValueError(f"{name}: expected numbers, got {values!r}")
    array = found.astype(np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected {shape or 'one'} finite numbers, got {values!r}")
    rows = array.tolist()
    return tuple(tuple(row) if shape[1:] else row for row in rows) if shape else rows
