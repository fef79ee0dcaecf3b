"""Small scenes on disk for the tests of the readers."""

import json

import numpy as np
from PIL import Image

from mmcity.datasets.io.colmap_model import write_colmap_model
from mmcity.datasets.io.colmap_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from mmcity.structures import geometry as geo

WIDTH, HEIGHT = 40, 30


def make_model(count=6, names=None, camera=None, points=20, seed=0):
    """Cameras on a circle that look at random points; features are exact projections."""
    rng = np.random.default_rng(seed)
    camera = camera or ColmapCamera(3, "PINHOLE", WIDTH, HEIGHT, [50.0, 52.0, 20.5, 14.0])
    xyz = rng.uniform(-1, 1, (points, 3))
    names = names or [f"{row:03d}.png" for row in range(count)]
    images, tracks = {}, [[] for _ in range(points)]
    for row, name in enumerate(names):
        angle = 2 * np.pi * row / len(names)
        eye = np.array([5 * np.cos(angle), 5 * np.sin(angle), 1.5])
        view = geo.look_at(eye, np.zeros(3))
        local = xyz @ view[:3, :3].T + view[:3, 3]
        pixels = (local @ camera.K.T)[:, :2] / local[:, 2:]
        image_id = 10 + row
        images[image_id] = ColmapImage(
            image_id,
            geo.rotmat_to_quat(view[:3, :3]),
            view[:3, 3],
            camera.camera_id,
            name,
            pixels,
            np.arange(points) + 100,
        )
        for point in range(points):
            tracks[point].append((image_id, point))
    return ColmapModel(
        {camera.camera_id: camera},
        images,
        ColmapPoints.from_arrays(
            xyz,
            rng.integers(0, 255, (points, 3)),
            np.zeros(points),
            ids=np.arange(points) + 100,
            track_lengths=np.full(points, len(names)),
            tracks=np.array(tracks).reshape(-1, 2),
        ),
    )


def picture(row, width=WIDTH, height=HEIGHT):
    """A picture whose red channel is its number."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([np.full_like(x, row), x * 4 % 256, y * 4 % 256], -1).astype(np.uint8)


def write_scene(root, image_dir="images", sparse="sparse/0", ext=".bin", **kwargs):
    """A COLMAP scene with pictures; gives its model."""
    model = make_model(**kwargs)
    write_colmap_model(model, root / sparse, ext)
    camera = next(iter(model.cameras.values()))
    for row, image in enumerate(model.images.values()):
        path = root / image_dir / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(row, camera.width, camera.height)).save(path)
    return model


def write_transforms(root, model, **top):
    """The same scene as ``transforms.json``."""
    camera = next(iter(model.cameras.values()))
    fx, fy, cx, cy = camera.params[:4]
    frames = []
    for row, image in enumerate(model.images.values()):
        pose = np.linalg.inv(image.viewmat) @ geo.OPENGL_TO_OPENCV
        frames.append({"file_path": f"./images/{image.name}", "transform_matrix": pose.tolist()})
        path = root / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(row, camera.width, camera.height)).save(path)
    data = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": camera.width, "h": camera.height}
    data.update(frames=frames, **top)
    (root / "transforms.json").write_text(json.dumps(data))
    return data
