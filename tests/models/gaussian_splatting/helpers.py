"""A small scene whose pictures are rendered by the toolbox itself."""

import torch

from mmcity.models.gaussian_splatting import GaussianSplatting
from mmcity.structures import Cameras, SceneDataSample
from mmcity.structures.geometry import look_at

SIZE = (48, 40)  # width, height


def ring_of_cameras(count=6, radius=3.0):
    """Cameras on a circle that look at the origin."""
    angle = torch.arange(count) * (2 * torch.pi / count)
    eyes = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.ones(count)], dim=1)
    intrinsics = torch.tensor([[50.0, 0, SIZE[0] / 2], [0, 50.0, SIZE[1] / 2], [0, 0, 1]])
    return Cameras(intrinsics, look_at(eyes, torch.zeros(count, 3)), *SIZE)


def points_and_colors(count=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = 0.6 * torch.randn(count, 3, generator=generator)
    return points, torch.rand(count, 3, generator=generator)


def make_model(**options):
    """A model on the ring of cameras with its first scene in place."""
    torch.manual_seed(0)
    model = GaussianSplatting(**{"sh_degree": 1, **options})
    points, colors = points_and_colors()
    model.initialize(ring_of_cameras(), points, colors)
    return model


def samples_of(cameras):
    samples = []
    for row in range(len(cameras)):
        sample = SceneDataSample(metainfo=dict(camera_index=row, img_name=f"{row}.png"))
        sample.camera = cameras[row]
        samples.append(sample)
    return samples
