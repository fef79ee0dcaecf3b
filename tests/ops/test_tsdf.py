"""TSDF volumes and their meshes on an analytic sphere."""

import math

import pytest
import torch

from mmcity_ops import TSDFVolume, extract_mesh, keep_largest_clusters, tsdf_integrate
from mmcity_ops.reference.marching_cubes import triangle_table

RADIUS, VOXEL, SIZE = 0.8, 0.06, 96
K = torch.tensor([[110.0, 0, 47.83], [0, 110.0, 48.21], [0, 0, 1]])


def look_at_centre(eye):
    """World to camera of a camera at ``eye`` that looks at the origin."""
    eye = torch.tensor(eye, dtype=torch.float64)
    forward = -eye / eye.norm()
    up = torch.tensor([0.0, 0.0, 1.0] if abs(forward[2]) < 0.9 else [0.0, 1.0, 0.0]).double()
    right = torch.linalg.cross(forward, up)
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
    return viewmat


def sphere_depth(viewmat, centre=(0.0, 0, 0), radius=RADIUS):
    """Exact z-depth [H, W]; 0 where the sphere is missed."""
    v, u = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    ray = torch.stack([(u - 47.83) / 110, (v - 48.21) / 110, torch.ones_like(u)], -1).double()
    c = viewmat[:3, :3] @ torch.tensor(centre, dtype=torch.float64) + viewmat[:3, 3]
    a, b = (ray**2).sum(-1), ray @ c
    root = b**2 - a * (c @ c - radius**2)
    depth = (b - root.clamp(min=0).sqrt()) / a
    return torch.where(root > 0, depth, 0.0).float()


EYES = [(2.4, 0, 0), (-2.4, 0.1, 0), (0, 2.4, 0), (0, -2.4, 0), (0, 0, 2.4), (0, 0, -2.4)]
EYES += [(x, y, z) for x in (-1.4, 1.4) for y in (-1.4, 1.4) for z in (-1.4, 1.4)]


def fuse_sphere(volume, allocate_first=True, eyes=EYES):
    views = [look_at_centre(eye) for eye in eyes]
    depths = [sphere_depth(view) for view in views]
    if allocate_first:
        for view, depth in zip(views, depths):
            volume.allocate(depth, K, view)
    colour = torch.tensor([10, 20, 30], dtype=torch.uint8).expand(SIZE, SIZE, 3)
    for view, depth in zip(views, depths):
        volume.integrate(depth, colour, K, view)
    return volume


def dense():
    return TSDFVolume([-1.2] * 3, VOXEL, dims=[40] * 3, trunc=4 * VOXEL)


def sparse(**options):
    return TSDFVolume([-1.2] * 3, VOXEL, trunc=4 * VOXEL, **options)


def edge_counts(faces):
    """How often each undirected edge is used."""
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).long()
    return torch.unique(pairs.sort(-1).values, dim=0, return_counts=True)[1]


@pytest.mark.parametrize("block_size", [8, 16])
def test_sphere_dense_equals_sparse_within_a_voxel(block_size):
    grid, blocks = fuse_sphere(dense()), fuse_sphere(sparse(block_size=block_size))
    vertices, faces, colors = blocks.extract_mesh()
    error = (vertices.double().norm(dim=1) - RADIUS).abs()
    assert error.max() < VOXEL
    assert error.mean() < 0.2 * VOXEL
    assert (edge_counts(faces) == 2).all()  # closed, also across blocks
    assert len(vertices) - len(edge_counts(faces)) + len(faces) == 2  # Euler: a sphere
    torch.testing.assert_close(colors, torch.tensor([10.0, 20, 30]).expand(len(vertices), 3))

    same, same_faces, _ = grid.extract_mesh()
    assert len(same_faces) == len(faces)
    distance = torch.cdist(same.double(), vertices.double())
    assert max(distance.amin(0).max(), distance.amin(1).max()) < 1e-5
    assert len(same) == len(vertices)


def test_faces_look_towards_free_space():
    vertices, faces, _ = fuse_sphere(sparse()).extract_mesh()
    a, b, c = vertices[faces.long()].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    assert ((normals * (a + b + c)).sum(-1) >= 0).double().mean() > 0.999


def test_blocks_hold_what_a_dense_volume_holds():
    grid, blocks = fuse_sphere(dense()), fuse_sphere(sparse())
    for block, values, weights in zip(blocks.blocks.tolist(), blocks.tsdf, blocks.weight):
        if min(block) < 0 or max(block) > 4:
            continue
        part = tuple(slice(8 * b, 8 * b + 8) for b in block)
        torch.testing.assert_close(values, grid.tsdf[part], rtol=0, atol=1e-5)
        assert torch.equal(weights, grid.weight[part])


def test_memory_grows_with_surface_and_not_with_volume():
    used = []
    for voxel in (0.06, 0.03):
        volume = TSDFVolume([-1.2] * 3, voxel, trunc=4 * voxel, color=False)
        fuse = [look_at_centre(eye) for eye in EYES]
        for view in fuse:
            volume.allocate(sphere_depth(view), K, view)
        used.append(volume.n_blocks)
    assert used[1] / used[0] < 5  # surface: 4 times, volume: 8 times


def test_native_equals_the_reference(monkeypatch):
    native = fuse_sphere(sparse(dtype=torch.float64), eyes=EYES[:3])
    mesh = native.extract_mesh()
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    other = fuse_sphere(sparse(dtype=torch.float64), eyes=EYES[:3])
    keys = {tuple(b): i for i, b in enumerate(other.blocks.tolist())}
    assert set(map(tuple, native.blocks.tolist())) <= set(keys)
    place = torch.tensor([keys[tuple(b)] for b in native.blocks.tolist()])
    different = (native.tsdf - other.tsdf[place]).abs() > 1e-9
    assert different.double().mean() < 1e-4  # pixels decided by rounding
    vertices, faces, colors = other.extract_mesh()
    assert abs(len(vertices) - len(mesh[0])) < 0.01 * len(vertices)
    assert (vertices.norm(dim=1) - RADIUS).abs().max() < VOXEL


def test_meshes_of_both_backends_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 5, 4, 6, generator=generator, dtype=torch.float64)
    weight = (torch.rand(3, 5, 4, 6, generator=generator) > 0.05).double()
    color = torch.rand(3, 5, 4, 6, 3, generator=generator, dtype=torch.float64)
    blocks = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.int32)
    args = (values, weight, color, blocks)
    ours = extract_mesh(*args, origin=[1, 2, 3], voxel_size=0.5)
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    theirs = extract_mesh(*args, origin=[1, 2, 3], voxel_size=0.5)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[2], theirs[2])

    def sorted_faces(faces):
        return sorted(map(tuple, faces.tolist()))

    assert sorted_faces(ours[1]) == sorted_faces(theirs[1])


def test_noise_gives_a_surface_without_cracks():
    values = torch.randn(1, 12, 13, 14, generator=torch.Generator().manual_seed(1))
    values[:, [0, -1]], values[:, :, [0, -1]], values[..., [0, -1]] = 1, 1, 1  # closed
    weight = torch.ones_like(values)
    _, faces, _ = extract_mesh(values[0], weight[0], origin=[0, 0, 0], voxel_size=1)
    assert (edge_counts(faces) % 2 == 0).all()
    assert (edge_counts(faces) == 2).double().mean() > 0.99


def test_agrees_with_scikit_image():
    pytest.importorskip("skimage")
    grid = fuse_sphere(dense())
    ours, their = grid.extract_mesh(), grid.extract_mesh(method="skimage")
    nearest = torch.cdist(ours[0].double(), their[0].double()).amin(1)
    assert nearest.max() < 1e-5
    assert len(ours[0]) <= len(their[0]) < 1.02 * len(ours[0])  # it may add vertices in cells
    a, b, c = their[0][their[1].long()].unbind(1)
    outward = (torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(-1) >= 0
    assert outward.double().mean() > 0.999


def test_table_covers_all_cases():
    table = triangle_table()
    assert table.shape[0] == 256
    assert (table[0] == -1).all() and (table[255] == -1).all()
    assert (table[1] >= 0).sum() == 3  # one corner: one triangle
    assert (table[3] >= 0).sum() == 6  # one edge: two


def test_masks_weights_and_max_depth():
    view = look_at_centre((2.4, 0, 0))
    depth = sphere_depth(view)
    volume = dense()
    volume.integrate(depth, None, K, view, mask=torch.zeros_like(depth, dtype=torch.bool))
    volume.integrate(depth, None, K, view, max_depth=1.0)
    assert volume.weight.max() == 0
    volume.integrate(depth, None, K, view, weight=2.0)
    volume.integrate(depth + 0.1, None, K, view, weight=1.0)
    seen = volume.weight == 3
    one, two = dense(), dense()
    one.integrate(depth, None, K, view)
    two.integrate(depth + 0.1, None, K, view)
    expected = (2 * one.tsdf + two.tsdf) / 3
    torch.testing.assert_close(volume.tsdf[seen], expected[seen])


def test_nothing_seen_gives_an_empty_mesh():
    volume = sparse()
    volume.integrate(torch.zeros(SIZE, SIZE), None, K, look_at_centre((2.4, 0, 0)))
    vertices, faces, colors = volume.extract_mesh()
    assert volume.n_blocks == 0
    assert vertices.shape == (0, 3) and faces.shape == (0, 3) and colors.shape == (0, 3)
    vertices, faces, _ = dense().extract_mesh()
    assert len(vertices) == len(faces) == 0
    behind = look_at_centre((2.4, 0, 0))
    behind[2, 3] -= 100
    tiny = TSDFVolume([0, 0, 0], 1.0, dims=[1, 1, 1])
    tiny.integrate(torch.ones(SIZE, SIZE), None, K, behind)
    assert tiny.weight.item() == 0


def test_nan_depth_is_no_measurement():
    volume = sparse()
    depth = torch.full((SIZE, SIZE), math.nan)
    volume.integrate(depth, None, K, look_at_centre((2.4, 0, 0)))
    assert volume.n_blocks == 0


def test_bitwise_equal_for_any_number_of_threads(thread_counts):
    def run():
        volume = fuse_sphere(sparse(), allocate_first=False)
        return volume.tsdf, volume.weight, volume.color, *volume.extract_mesh()

    one, two = (thread_counts(n, run) for n in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_largest_clusters():
    tetra = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    faces = torch.cat(
        [torch.tensor([[0, 1, 2]]), tetra + 4, torch.tensor([[8, 9, 10], [8, 9, 11]])]
    )
    vertices = torch.arange(36.0).reshape(12, 3)
    kept, kept_faces, colors = keep_largest_clusters(vertices, faces, vertices, n_clusters=2)
    assert len(kept_faces) == 6
    assert torch.equal(kept, vertices[4:])
    assert torch.equal(colors, kept)
    assert torch.equal(kept[kept_faces], vertices[faces[1:]])
    chain = torch.tensor([[i, i + 1, i + 2] for i in range(0, 400, 2)])
    assert len(keep_largest_clusters(torch.zeros(402, 3), chain, n_clusters=1)[1]) == 200


def test_errors():
    with pytest.raises(ValueError, match="leave dims out for sparse blocks"):
        TSDFVolume([0, 0, 0], 0.1, dims=[1024] * 3)
    with pytest.raises(ValueError, match="block_size: expected 8 or 16"):
        TSDFVolume([0, 0, 0], 0.1, block_size=4)
    volume = sparse(color=False)
    image = torch.zeros(SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="image: expected color=True"):
        volume.integrate(torch.ones(SIZE, SIZE), image, K, torch.eye(4))
    with pytest.raises(ValueError, match=r"depth: expected shape \[H, W\]"):
        volume.integrate(torch.ones(3, SIZE, SIZE), None, K, torch.eye(4))
    with pytest.raises(ValueError, match="finite"):
        volume.integrate(torch.ones(SIZE, SIZE), None, K * math.nan, torch.eye(4))
    with pytest.raises(ValueError, match="2\\^20 blocks"):
        volume.integrate(torch.full((SIZE, SIZE), 1e9), None, K, torch.eye(4))
    with pytest.raises(ValueError, match="weight: expected a positive"):
        volume.integrate(torch.ones(SIZE, SIZE), None, K, torch.eye(4), weight=0)


def test_opcheck():
    view = look_at_centre((2.4, 0, 0))
    volume = fuse_sphere(sparse(), eyes=EYES[:1])
    settings = ([-1.2] * 3, VOXEL)
    depth = sphere_depth(view)
    shared = (depth, None, K, view, *settings, 0.2, 10.0)
    torch.library.opcheck(torch.ops.mmcity.tsdf_touched_blocks, (*shared, 8))
    args = (volume.tsdf[:3].clone(), volume.weight[:3].clone(), volume.color[:3].clone())
    args = (*args, volume.blocks[:3].clone(), depth, torch.zeros(SIZE, SIZE, 3), None, K, view)
    torch.library.opcheck(torch.ops.mmcity.tsdf_integrate_, (*args, *settings, 0.2, 1.0, 10.0))
    args = (*args[:4], triangle_table(), *settings, 0.0, 1.0)
    torch.library.opcheck(torch.ops.mmcity.marching_cubes, args)


def test_functional_form_updates_in_place():
    tsdf, weight = torch.ones(40, 40, 40), torch.zeros(40, 40, 40)
    view = look_at_centre((0, 2.4, 0))
    options = {"origin": [-1.2] * 3, "voxel_size": VOXEL, "trunc": 4 * VOXEL}
    tsdf_integrate(tsdf, weight, None, sphere_depth(view), None, K, view, **options)
    expected = fuse_sphere(dense(), eyes=[(0, 2.4, 0)])
    assert torch.equal(tsdf, expected.tsdf)
    assert torch.equal(weight, expected.weight)
