"""Writes a small scene in the file layouts of the streaming data sets."""

import gzip
import json
import struct
from pathlib import Path

import h5py
import numpy as np
import OpenEXR
from PIL import Image

from mmcity.datasets.sequences.frames import SINTEL_TAG
from mmcity.structures import Trajectory
from mmcity.structures.geometry import OPENGL_TO_OPENCV, axis_angle_to_rotmat, se3_inverse

HEIGHT, WIDTH = 48, 64


class Scene:
    """A textured wall with a step, seen by a camera that moves and turns."""

    def __init__(self, frames: int = 6, K: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
        ramp = np.linspace(1.5, 3.0, WIDTH, dtype=np.float32)
        self.depths = np.stack([np.tile(ramp + 0.1 * i, (HEIGHT, 1)) for i in range(frames)])
        self.depths[:, :4] = 0  # nothing measured there
        self.depths[:, 20:30, 10:20] -= 0.5
        self.poses = np.tile(np.eye(4), (frames, 1, 1))
        for i in range(frames):
            self.poses[i, :3, :3] = axis_angle_to_rotmat(np.array([0.02 * i, 0.05 * i, 0.0]))
            self.poses[i, :3, 3] = [0.1 * i, 0.02 * i * i, 0.05 * i]
        self.K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]) if K is None else K

    def image(self, path: Path, index: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.images[index]).save(path)

    def png(self, path: Path, index: int, scale: float, empty: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        depth = self.depths[index]
        stored = np.where(depth > 0, np.round(depth * scale), empty).astype(np.uint16)
        Image.fromarray(stored).save(path)

    def npy(self, path: Path, index: int, scale: float = 1.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, self.depths[index] * scale)

    def exr(self, path: Path, index: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"Y": self.depths[index]}).write(str(path))

    def camera(self, path: Path, index: int, **extra) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, intrinsics=self.K, cam2world=self.poses[index], **extra)

    def __len__(self) -> int:
        return len(self.images)


def write_sintel(root: Path, scene: Scene, name: str = "alley_2") -> None:
    base = root / "sintel" / "training"
    for i in range(len(scene)):
        stem = f"frame_{i + 1:04d}"
        scene.image(base / "final" / name / f"{stem}.png", i)
        for folder in ("depth", "camdata_left"):
            (base / folder / name).mkdir(parents=True, exist_ok=True)
        header = struct.pack("<fii", SINTEL_TAG, WIDTH, HEIGHT)
        depth = header + scene.depths[i].astype("<f4").tobytes()
        (base / "depth" / name / f"{stem}.dpt").write_bytes(depth)
        world_to_cam = np.asarray(se3_inverse(scene.poses[i]))
        numbers = np.concatenate([scene.K.ravel(), world_to_cam[:3].ravel()])
        camera = struct.pack("<f", SINTEL_TAG) + numbers.astype("<f8").tobytes()
        (base / "camdata_left" / name / f"{stem}.cam").write_bytes(camera)


def write_bonn(root: Path, scene: Scene) -> None:
    folder = root / "bonn" / "rgbd_bonn_dataset" / "rgbd_bonn_crowd2"
    for i in range(len(scene)):
        scene.image(folder / "rgb_110" / f"15487.{i:05d}.png", i)
        scene.png(folder / "depth_110" / f"15487.{i:05d}9.png", i, 5000)
    Trajectory(scene.poses).write_tum(folder / "groundtruth_110.txt")


def write_kitti(root: Path, scene: Scene) -> None:
    base = root / "kitti" / "depth_selection" / "val_selection_cropped"
    for i in range(len(scene)):
        scene.image(base / "image_gathered" / "drive_02" / f"{i:010d}.png", i)
        scene.png(base / "groundtruth_depth_gathered" / "drive_02" / f"{i:010d}.png", i, 256)


def write_nyu(root: Path, scene: Scene, name: str = "nyu-v2") -> None:
    for i in range(len(scene)):
        scene.image(root / name / "val" / "nyu_images" / f"{i}.png", i)
        scene.npy(root / name / "val" / "nyu_depths" / f"{i}.npy", i)


def write_scannet(root: Path, scene: Scene) -> None:
    folder = root / "scannetv2" / "scene0707_00"
    for i in range(len(scene)):
        scene.image(folder / "color_90" / f"frame_{i:04d}.jpg", i)
    np.savetxt(folder / "pose_90.txt", scene.poses.reshape(len(scene), 16))


def write_tum(root: Path, scene: Scene) -> None:
    folder = root / "tum" / "rgbd_dataset_freiburg3_sitting_xyz"
    for i in range(len(scene)):
        scene.image(folder / "rgb_90" / f"1341.{i:06d}.png", i)
    Trajectory(scene.poses).write_tum(folder / "groundtruth_90.txt")


def write_seven_scenes(root: Path, scene: Scene) -> None:
    folder = root / "7scenes" / "chess" / "seq-03"
    for i in range(len(scene)):
        scene.image(folder / f"frame-{i:06d}.color.png", i)
        scene.png(folder / f"frame-{i:06d}.depth.proj.png", i, 1000, empty=65535)
    Trajectory(scene.poses).write_7scenes(folder)
    (folder.parent / "TestSplit.txt").write_text("sequence3\n")


def write_neural_rgbd(root: Path, scene: Scene) -> None:
    folder = root / "neural_rgbd" / "whiteroom"
    poses = scene.poses @ OPENGL_TO_OPENCV
    poses[1] = np.nan
    for i in range(len(scene)):
        scene.image(folder / "images" / f"img{i}.png", i)
        scene.png(folder / "depth" / f"depth{i}.png", i, 1000)
    np.savetxt(folder / "poses.txt", poses.reshape(-1, 4))


def write_co3d(root: Path, scene: Scene) -> None:
    rows = []
    for i in range(len(scene)):
        path = f"apple/110_13051/images/frame{i:06d}.jpg"
        scene.image(root / "co3d" / path, i)
        world_to_cam = np.asarray(se3_inverse(scene.poses[i]))
        flip = np.diag([-1.0, -1.0, 1.0])
        rows.append(
            {
                "filepath": path,
                "R": (flip @ world_to_cam[:3, :3]).T.tolist(),
                "T": (flip @ world_to_cam[:3, 3]).tolist(),
            }
        )
    (root / "co3d_annotations").mkdir()
    with gzip.open(root / "co3d_annotations" / "apple_test.jgz", "wt") as file:
        json.dump({"110_13051": rows, "short": rows[:3]}, file)


EVAL_WRITERS = {
    "sintel": write_sintel,
    "bonn": write_bonn,
    "kitti": write_kitti,
    "nyu_v2": write_nyu,
    "scannet": write_scannet,
    "tum": write_tum,
    "7scenes": write_seven_scenes,
    "neural_rgbd": write_neural_rgbd,
    "co3d": write_co3d,
}


def scene_cameras(path: Path, scene: Scene, names: list[str], **extra) -> None:
    rows = [[WIDTH, HEIGHT, scene.K[0, 0], scene.K[1, 1], scene.K[0, 2], scene.K[1, 2]]]
    np.savez(path, images=names, intrinsics=rows * len(names), trajectories=scene.poses, **extra)


#: Each image overlaps with the next one and, less, with the one after it.
CHAIN = {i: [(k, 1.0 / (k - i)) for k in (i + 2, i + 1) if k < 6] for i in range(6)}


def write_training(name: str, root: Path, scene: Scene) -> None:
    """One sequence in the layout of a training set."""
    frames = range(len(scene))
    if name == "co3d":
        folder = root / "processed_co3d" / "apple" / "12_100"
        for i in frames:
            stem = f"frame{i:06d}"
            scene.image(folder / "images" / f"{stem}.jpg", i)
            scene.png(folder / "depths" / f"{stem}.jpg.geometric.png", i, 65535 / 8)
            scene.camera(folder / "images" / f"{stem}.npz", i, maximum_depth=8.0)
            (folder / "masks").mkdir(exist_ok=True)
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[:, 30:] = 255
            Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")
        selected = {"apple": {"12_100": list(frames)}}
        (root / "processed_co3d" / "selected_seqs_train.json").write_text(json.dumps(selected))
    elif name == "wildrgbd":
        folder = root / "wildrgbd" / "ball" / "scenes" / "scene_000"
        for i in frames:
            scene.image(folder / "rgb" / f"{i:05d}.jpg", i)
            scene.png(folder / "depth" / f"{i:05d}.png", i, 1000)
            scene.camera(folder / "metadata" / f"{i:05d}.npz", i)
    elif name in ("arkitscenes", "arkitscenes_highres", "scannetpp"):
        high, pp = name.endswith("highres"), name == "scannetpp"
        folder = root / f"processed_{name}" / "Training" / "40753679"
        names = [f"40753679_{i:03d}.jpg" for i in frames]
        for i, file in enumerate(names):
            scene.image(folder / ("images" if pp else "vga_wide") / file, i)
            kind = "depth" if pp else "highres_depth" if high else "lowres_depth"
            scene.png(folder / kind / file.replace(".jpg", ".png"), i, 1000)
        if high:
            scene_cameras(folder / "scene_metadata.npz", scene, names)
        else:
            scene_cameras(folder / "new_scene_metadata.npz", scene, names, image_collection=CHAIN)
    elif name == "scannet":
        folder = root / "processed_scannet" / "scans_train" / "scene0000_00"
        for i in frames:
            scene.image(folder / "color" / f"{i:05d}.jpg", i)
            scene.png(folder / "depth" / f"{i:05d}.png", i, 1000)
            scene.camera(folder / "cam" / f"{i:05d}.npz", i)
    elif name == "hypersim":
        folder = root / "hypersim" / "ai_001_001" / "cam_00"
        for i in frames:
            scene.image(folder / f"{i:06d}_rgb.png", i)
            scene.npy(folder / f"{i:06d}_depth.npy", i)
            scene.camera(folder / f"{i:06d}_cam.npz", i)
    elif name in ("blendedmvs", "megadepth"):
        folder = root / f"processed_{name}" / "0001"
        for i in frames:
            scene.image(folder / f"{i:08d}.jpg", i)
            scene.exr(folder / f"{i:08d}.exr", i)
            pose = scene.poses[i]
            np.savez(
                folder / f"{i:08d}.npz",
                intrinsics=scene.K,
                R_cam2world=pose[:3, :3],
                t_cam2world=pose[:3, 3],
            )
        files = [f"{i:08d}" for i in frames]
        if name == "megadepth":
            sets = {"scenes": ["0001"], "images": files, "sets": [[0, 1, 3, 5], [0, 0, 2, 4]]}
            np.savez(folder.parent / "megadepth_sets_64.npz", **sets)
        else:
            links = [(i, k, s) for i, row in CHAIN.items() for k, s in row]
            with h5py.File(folder.parent / "new_overlap.h5", "w") as file:
                file["0001/basenames"] = [stem.encode() for stem in files]
                file["0001/indices"] = [link[:2] for link in links]
                file["0001/values"] = [0.1 if link[1] % 2 else link[2] for link in links]
    elif name == "waymo":
        folder = root / "waymo" / "segment-1"
        for camera in (1, 4, 5):
            for i in frames:
                scene.image(folder / f"{i:05d}_{camera}.jpg", i)
                scene.exr(folder / f"{i:05d}_{camera}.exr", i)
                scene.camera(folder / f"{i:05d}_{camera}.npz", i)
    elif name == "vkitti":
        folder = root / "processed_vkitti" / "Scene01" / "clone" / "Camera_0"
        for i in frames:
            scene.image(folder / f"{i:05d}_rgb.jpg", i)
            scene.png(folder / f"{i:05d}_depth.png", i, 100, empty=65535)  # sky
            scene.camera(folder / f"{i:05d}_cam.npz", i)
    else:
        suffix = "png" if name in ("omniobject3d", "spring") else "jpg"
        scale = 1000.0 * 2.5 if name == "omniobject3d" else 1.0
        extra = {"scale": 2.5} if name == "omniobject3d" else {}
        folder = root / name / "part" / "scene_1"
        for i in frames:
            scene.image(folder / "rgb" / f"{i:05d}.{suffix}", i)
            scene.npy(folder / "depth" / f"{i:05d}.npy", i, scale)
            scene.camera(folder / "cam" / f"{i:05d}.npz", i, **extra)
