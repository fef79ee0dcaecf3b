"""The parts of a COLMAP sparse model: cameras, images, points."""

from dataclasses import dataclass, field

import numpy as np
import torch

from mmcity.structures import Cameras


class ColmapFormatError(ValueError):
    """A COLMAP file that cannot be used; says which file, what was expected, what came."""

    def __init__(self, path, expected: str, got: str, hint: str | None = None) -> None:
        hint = hint or "export the model again with COLMAP (`colmap model_converter`)"
        super().__init__(f"{path}: expected {expected}, got {got}: {hint}")
        self.path = str(path)


@dataclass(frozen=True)
class CameraModelInfo:
    """Name, id and parameter layout of one COLMAP camera model.

    Attributes:
        model_id (int): Number in ``cameras.bin``.
        name (str): Name in ``cameras.txt``.
        params (tuple[str, ...]): Parameter names in file order; ``f`` stands for both
            focal lengths.
    """

    model_id: int
    name: str
    params: tuple[str, ...]


def _models() -> dict[str, CameraModelInfo]:
    rows = (
        ("SIMPLE_PINHOLE", "f cx cy"),
        ("PINHOLE", "fx fy cx cy"),
        ("SIMPLE_RADIAL", "f cx cy k1"),
        ("RADIAL", "f cx cy k1 k2"),
        ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
        ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
        ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
        ("FOV", "fx fy cx cy omega"),
        ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
        ("RADIAL_FISHEYE", "f cx cy k1 k2"),
        ("THIN_PRISM_FISHEYE", "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1"),
        ("RAD_TAN_THIN_PRISM_FISHEYE", "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
    )
    return {
        name: CameraModelInfo(number, name, tuple(params.split()))
        for number, (name, params) in enumerate(rows)
    }


#: Camera models by name.
CAMERA_MODELS = _models()
#: Distortion coefficients in the order in which OpenCV takes them.
_OPENCV_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")


@dataclass
class ColmapCamera:
    """One row of ``cameras``.

    Attributes:
        camera_id (int): Id that images refer to.
        model (str): Key of :data:`CAMERA_MODELS`.
        width (int): Pixels.
        height (int): Pixels.
        params (np.ndarray): ``(P,)`` float64 in the order of the model.
    """

    camera_id: int
    model: str
    width: int
    height: int
    params: np.ndarray

    def __post_init__(self) -> None:
        if self.model not in CAMERA_MODELS:
            raise ValueError(
                f"camera {self.camera_id}: expected a model of {list(CAMERA_MODELS)}, "
                f"got {self.model!r}"
            )
        self.params = np.asarray(self.params, dtype=np.float64).reshape(-1)
        names = CAMERA_MODELS[self.model].params
        if len(self.params) != len(names):
            raise ValueError(
                f"camera {self.camera_id}: expected {len(names)} parameters of {self.model} "
                f"({' '.join(names)}), got {len(self.params)}"
            )
        if self.width <= 0 or self.height <= 0:
            raise ValueError(
                f"camera {self.camera_id}: expected a size above 0, got {self.width}x{self.height}"
            )
        if not np.isfinite(self.params).all():
            raise ValueError(
                f"camera {self.camera_id}: expected finite parameters, got {self.params.tolist()}"
            )
        values = self.named_params
        if min(values["fx"], values["fy"]) <= 0:
            raise ValueError(
                f"camera {self.camera_id}: expected focal lengths above 0, "
                f"got {values['fx']}, {values['fy']}"
            )

    @property
    def named_params(self) -> dict[str, float]:
        """Parameters by name; a single focal length appears as ``fx`` and ``fy``."""
        values = dict(zip(CAMERA_MODELS[self.model].params, self.params.tolist()))
        if "f" in values:
            focal = values.pop("f")
            values = {"fx": focal, "fy": focal, **values}
        return values

    @property
    def K(self) -> np.ndarray:
        """``(3, 3)`` float64 intrinsics, pixel centres at +0.5."""
        p = self.named_params
        return np.array([[p["fx"], 0, p["cx"]], [0, p["fy"], p["cy"]], [0, 0, 1.0]])

    @property
    def is_pinhole(self) -> bool:
        """Whether pixels follow from K alone (a distortion model with zeros counts)."""
        if "FISHEYE" in self.model or self.model == "FOV":
            return False
        return not self.distortion.any()

    @property
    def distortion(self) -> np.ndarray:
        """Coefficients in OpenCV's order: ``k1 k2 p1 p2 k3 k4 k5 k6``, fisheye ``k1 k2 k3 k4``.

        Raises:
            ValueError: If OpenCV has no such model (FOV, thin prism).
        """
        p = self.named_params
        if self.model == "FOV" or "THIN_PRISM" in self.model:
            raise ValueError(
                f"camera {self.camera_id}: expected a model that OpenCV knows, got {self.model}"
            )
        if "FISHEYE" in self.model:
            return np.array([p.get(k, 0.0) for k in ("k1", "k2", "k3", "k4")])
        return np.array([p.get(k, 0.0) for k in _OPENCV_ORDER])

    @classmethod
    def pinhole(cls, camera_id: int, width: int, height: int, K) -> "ColmapCamera":
        """A PINHOLE camera from a ``(3, 3)`` matrix."""
        K = np.asarray(K, dtype=np.float64)
        params = np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]])
        return cls(camera_id, "PINHOLE", int(width), int(height), params)


@dataclass
class ColmapImage:
    """One row of ``images``: a pose, a name, and the feature points in it.

    Attributes:
        image_id (int): Id that tracks refer to.
        qvec (np.ndarray): ``(4,)`` float64 world-to-camera quaternion, wxyz.
        tvec (np.ndarray): ``(3,)`` float64 world-to-camera translation.
        camera_id (int): Camera that took it.
        name (str): File name relative to the images folder.
        xys (np.ndarray): ``(M, 2)`` float64 pixels, pixel centres at +0.5.
        point3D_ids (np.ndarray): ``(M,)`` int64 point ids, -1 for none.
    """

    image_id: int
    qvec: np.ndarray
    tvec: np.ndarray
    camera_id: int
    name: str
    xys: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    point3D_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.qvec = np.asarray(self.qvec, dtype=np.float64).reshape(-1)
        self.tvec = np.asarray(self.tvec, dtype=np.float64).reshape(-1)
        who = f"image {self.image_id} ({self.name!r})"
        if self.qvec.shape != (4,) or self.tvec.shape != (3,):
            raise ValueError(
                f"{who}: expected 4 quaternion and 3 translation values, "
                f"got {self.qvec.size} and {self.tvec.size}"
            )
        pose = np.concatenate([self.qvec, self.tvec])
        if not np.isfinite(pose).all():
            raise ValueError(f"{who}: expected a finite pose, got {pose.tolist()}")
        norm = np.linalg.norm(self.qvec)
        if not 1e-6 < norm < 1e6:
            raise ValueError(f"{who}: expected a quaternion of length about 1, got length {norm:g}")
        if not self.name or "\0" in self.name or "\n" in self.name:
            raise ValueError(f"image {self.image_id}: expected a file name, got {self.name!r}")

    @property
    def viewmat(self) -> np.ndarray:
        """``(4, 4)`` float64 world-to-camera matrix."""
        w, x, y, z = self.qvec / np.linalg.norm(self.qvec)
        out = np.eye(4)
        out[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        out[:3, 3] = self.tvec
        return out


@dataclass
class ColmapPoints:
    """All of ``points3D`` as arrays; tracks are stored one after the other.

    Attributes:
        ids (np.ndarray): ``(N,)`` int64.
        xyz (np.ndarray): ``(N, 3)`` float64 world positions.
        rgb (np.ndarray): ``(N, 3)`` uint8.
        errors (np.ndarray): ``(N,)`` float64 mean reprojection error in px (-1: unknown).
        track_offsets (np.ndarray): ``(N + 1,)`` int64; the track of point i lies in rows
            ``track_offsets[i]:track_offsets[i + 1]``.
        tracks (np.ndarray): ``(T, 2)`` int32 rows (image id, index of the feature there).
    """

    ids: np.ndarray
    xyz: np.ndarray
    rgb: np.ndarray
    errors: np.ndarray
    track_offsets: np.ndarray
    tracks: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls) -> "ColmapPoints":
        """No points at all."""
        return cls.from_arrays(np.zeros((0, 3)))

    @classmethod
    def from_arrays(
        cls, xyz, rgb=None, errors=None, *, ids=None, track_lengths=None, tracks=None
    ) -> "ColmapPoints":
        """Points from arrays; what is left out becomes grey, error -1, ids 1.., no tracks.

        Args:
            xyz (np.ndarray): ``(N, 3)``.
            rgb (np.ndarray, optional): ``(N, 3)`` uint8.
            errors (np.ndarray, optional): ``(N,)`` px.
            ids (np.ndarray, optional): ``(N,)``.
            track_lengths (np.ndarray, optional): ``(N,)``; goes with ``tracks``.
            tracks (np.ndarray, optional): ``(sum(track_lengths), 2)``.
        """
        xyz = np.ascontiguousarray(xyz, dtype=np.float64).reshape(-1, 3)
        count = len(xyz)
        lengths = np.zeros(count, np.int64) if track_lengths is None else track_lengths
        tracks = np.zeros((0, 2), np.int32) if tracks is None else tracks
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        out = cls(
            ids=np.arange(1, count + 1) if ids is None else np.asarray(ids, np.int64),
            xyz=xyz,
            rgb=np.full((count, 3), 128, np.uint8) if rgb is None else np.asarray(rgb, np.uint8),
            errors=np.full(count, -1.0) if errors is None else np.asarray(errors, np.float64),
            track_offsets=offsets,
            tracks=np.asarray(tracks, dtype=np.int32).reshape(-1, 2),
        )
        sizes = (len(out.ids), len(out.rgb), len(out.errors), len(lengths))
        if sizes != (count,) * 4 or offsets[-1] != len(out.tracks):
            raise ValueError(
                f"expected {count} ids, colours, errors and track lengths, got {sizes}; "
                f"track lengths sum to {offsets[-1]}, tracks has {len(out.tracks)} rows"
            )
        return out

    @property
    def track_lengths(self) -> np.ndarray:
        """``(N,)`` int64 number of images that see each point."""
        return np.diff(self.track_offsets)

    def __getitem__(self, index) -> "ColmapPoints":
        """Points by slice, mask or integer array, with their tracks."""
        rows = np.arange(len(self))[index]
        if rows.ndim != 1:
            raise IndexError("points: expected a slice, mask or index array, got one number")
        lengths = self.track_lengths[rows]
        starts = np.repeat(self.track_offsets[:-1][rows], lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return ColmapPoints.from_arrays(
            self.xyz[rows],
            self.rgb[rows],
            self.errors[rows],
            ids=self.ids[rows],
            track_lengths=lengths,
            tracks=self.tracks[starts + within],
        )


@dataclass
class ColmapModel:
    """A sparse model.

    Attributes:
        cameras (dict[int, ColmapCamera]): By camera id.
        images (dict[int, ColmapImage]): By image id.
        points3D (ColmapPoints): Points as arrays.
        path (str): Folder it was read from; empty for one made in memory.
    """

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points3D: ColmapPoints = field(default_factory=ColmapPoints.empty)
    path: str = ""

    def check(self) -> None:
        """Check that ids match, that names are unique, and that points are finite.

        Raises:
            ValueError: With the first contradiction found.
        """
        names: dict[str, int] = {}
        for image in self.images.values():
            if image.camera_id not in self.cameras:
                raise ValueError(
                    f"image {image.image_id} ({image.name!r}): expected a camera of "
                    f"{sorted(self.cameras)[:10]}, got {image.camera_id}"
                )
            if image.name in names:
                raise ValueError(
                    f"images {names[image.name]}, {image.image_id}: expected two names, got "
                    f"{image.name!r}"
                )
            if len(image.xys) != len(image.point3D_ids):
                raise ValueError(
                    f"image {image.image_id} ({image.name!r}): expected as many point ids as "
                    f"pixels, got {len(image.point3D_ids)} and {len(image.xys)}"
                )
            names[image.name] = image.image_id
        bad = ~np.isfinite(self.points3D.xyz).all(axis=1)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"points: expected finite coordinates, got others of {int(bad.sum())}, first id "
                f"{self.points3D.ids[first]}: {self.points3D.xyz[first].tolist()}"
            )

    def pinhole_cameras(self) -> Cameras:
        """Cameras of all images, by image id; distortion is left out."""
        images = [self.images[key] for key in sorted(self.images)]
        lenses = [self.cameras[image.camera_id] for image in images]
        return Cameras(
            torch.from_numpy(np.stack([lens.K for lens in lenses])),
            torch.from_numpy(np.stack([image.viewmat for image in images])),
            torch.tensor([lens.width for lens in lenses]),
            torch.tensor([lens.height for lens in lenses]),
        )

    def reprojection_errors(self) -> np.ndarray:
        """Distance in px between each observation and its projected point.

        Returns:
            np.ndarray: ``(O,)`` float64, one per feature that has a point, images in order
            of the dict; points behind the camera give inf.

        Raises:
            ValueError: If a camera has distortion.
        """
        order = np.argsort(self.points3D.ids)
        ids = self.points3D.ids[order]
        out = [np.zeros(0)]
        for image in self.images.values():
            camera = self.cameras[image.camera_id]
            if not camera.is_pinhole:
                raise ValueError(
                    f"camera {camera.camera_id}: expected no distortion, got {camera.model}"
                )
            seen = image.point3D_ids >= 0
            wanted = image.point3D_ids[seen]
            place = np.searchsorted(ids, wanted).clip(max=max(len(ids) - 1, 0))
            known = ids[place] == wanted if len(ids) else np.zeros(len(wanted), bool)
            view = image.viewmat
            xyz = self.points3D.xyz[order[place[known]]] @ view[:3, :3].T + view[:3, 3]
            pixels = xyz @ camera.K.T
            with np.errstate(divide="ignore", invalid="ignore"):
                error = np.linalg.norm(
                    pixels[:, :2] / pixels[:, 2:] - image.xys[seen][known], axis=1
                )
            out.append(np.where(xyz[:, 2] > 0, error, np.inf))
        return np.concatenate(out)
