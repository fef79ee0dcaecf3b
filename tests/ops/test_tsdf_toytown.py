"""A block of the procedural city, meshed from the exact depth maps of a survey flight."""

import numpy as np
import pytest
import torch

from mmcity_ops import TSDFVolume, keep_largest_clusters

VOXEL, VIEWS, SIZE = 0.4, 40, (240, 180)


def exact_depth(renderer, view):
    """z-depth [H, W] of a view, without shading."""
    rays = view.camera_rays(view.pixel_grid().reshape(-1, 2))
    length = np.linalg.norm(rays, axis=1)
    directions = (rays / length[:, None]) @ view.cam_to_world[:3, :3].T
    hits = renderer.trace(np.broadcast_to(view.center, directions.shape), directions)
    depth = np.where(hits.found, hits.distance / length, 0)
    return torch.from_numpy(depth.reshape(view.height, view.width)).float()


def distance_to_town(renderer, points):
    """Distance to the closest surface along the 26 directions of a grid's neighbours."""
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    best = np.full(len(points), np.inf)
    for step in steps[np.abs(steps).sum(1) > 0]:
        directions = np.broadcast_to(step / np.linalg.norm(step), points.shape)
        hits = renderer.trace(points, directions)
        best = np.minimum(best, np.where(hits.found, hits.distance, np.inf))
    return best


@pytest.mark.slow
def test_mesh_of_a_city_block_lies_within_a_voxel_of_it():
    from mmcity.toytown import Renderer, ToytownConfig, build_world
    from mmcity.toytown.motion.flight import survey_flight

    world = build_world(ToytownConfig(seed=3, size="tiny", traffic=0.0))
    renderer = Renderer(world)
    views = survey_flight(world, VIEWS, *SIZE, np.random.default_rng(0))
    volume = TSDFVolume([0, 0, 0], VOXEL, trunc=4 * VOXEL, color=False)
    for view in views:
        viewmat = torch.from_numpy(np.linalg.inv(view.cam_to_world))
        volume.integrate(exact_depth(renderer, view), None, torch.from_numpy(view.K), viewmat)
    vertices, faces, _ = volume.extract_mesh(min_weight=2)
    vertices, faces, _ = keep_largest_clusters(vertices, faces, n_clusters=50)
    extent = vertices.amax(0) - vertices.amin(0)
    dense_bytes = 8 * float((extent / VOXEL).prod())

    places = vertices[:, :2].numpy()
    inside = ((places > world.low) & (places < world.high)).all(1)
    distance = distance_to_town(renderer, vertices[inside][::5].double().numpy())
    print(f"{len(faces)} faces, {volume.n_blocks} blocks, {volume.memory_bytes / 2**20:.0f} MB; "
          f"dense {dense_bytes / 2**20:.0f} MB; error mean {distance.mean():.3f}, median "
          f"{np.median(distance):.3f}, 95 % {np.quantile(distance, 0.95):.3f} m")  # fmt: skip
    assert distance.mean() < 0.5 * VOXEL
    assert np.quantile(distance, 0.95) < VOXEL
