"""The parts of the CUDA kernels that run on the host too, against the CPU operators."""

import ctypes
import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import mmcity_ops as ops
from mmcity_ops import _backend, _build

TILE = 16


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The shared headers of the kernels as a host library."""
    _build.check_toolchain()
    source = Path(__file__).with_name("cuda_host.cpp")
    library = tmp_path_factory.mktemp("host") / "cuda_host.so"
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-I", str(_build.CSRC)]
    subprocess.run(["c++", *flags, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(array):
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


def random_splats(n, size, seed):
    """Means, conics of needles and blobs, radii and opacities, float32."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(-10, size + 10, (n, 2))
    angle = rng.uniform(0, np.pi, n)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
    turn = turn.reshape(n, 2, 2)
    variances = np.exp(rng.uniform(-1.0, 6.0, (n, 2)))
    covars = turn @ (variances[:, :, None] * turn.transpose(0, 2, 1))
    inverse = np.linalg.inv(covars)
    conics = np.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)
    radii = np.ceil(3.33 * np.sqrt(np.stack([covars[:, 0, 0], covars[:, 1, 1]], -1)))
    opacities = rng.uniform(0.002, 1.0, n)
    f32 = lambda x: np.ascontiguousarray(x, np.float32)  # noqa: E731
    return f32(means), f32(conics), np.ascontiguousarray(radii, np.int32), f32(opacities)


@pytest.mark.parametrize("exact", [False, True])
def test_tiles_of_rows_are_those_of_the_cpu_operator(host, exact):
    n, tw, th = 400, 13, 9
    means, conics, radii, opacities = random_splats(n, tw * TILE, seed=1)
    tensors = [torch.from_numpy(x) for x in (means, radii, np.arange(1, n + 1, dtype=np.float32))]
    kwargs = {}
    if exact:
        kwargs = {"conics": torch.from_numpy(conics), "opacities": torch.from_numpy(opacities)}
    _backend.use_native(tensors[0])
    counts, keys, rows = ops.isect_tiles(*tensors, TILE, tw, th, **kwargs)
    wanted = {i: [] for i in range(n)}
    bits = (tw * th - 1).bit_length()
    for key, row in zip(keys.tolist(), rows.tolist()):
        wanted[row].append(key >> 32 & (1 << bits) - 1)
    out = np.zeros(tw * th, np.int32)
    for i in range(n):
        count = host.tiles_of_row(
            ctypes.c_float(means[i, 0]),
            ctypes.c_float(means[i, 1]),
            int(radii[i, 0]),
            int(radii[i, 1]),
            pointer(conics[i]) if exact else None,
            pointer(opacities[i : i + 1]) if exact else None,
            TILE,
            tw,
            th,
            pointer(out),
        )
        assert count == int(counts[i])
        assert sorted(out[:count].tolist()) == sorted(wanted[i])


def test_windows_hold_every_pixel_that_a_splat_reaches(host):
    means, conics, _, opacities = random_splats(3000, 16, seed=2)
    found, needed, spared = ctypes.c_uint(), ctypes.c_uint(), 0
    for i in range(len(means)):
        host.windows_of_splat(
            ctypes.c_float(means[i, 0]),
            ctypes.c_float(means[i, 1]),
            pointer(conics[i]),
            ctypes.c_float(opacities[i]),
            ctypes.byref(found),
            ctypes.byref(needed),
        )
        assert needed.value & ~found.value == 0
        spared += 8 - found.value.bit_count()
    assert spared > 3000  # the test is worth its cost only if it spares windows


def test_blending_one_pixel_gives_the_cpu_gradients(host):
    n = 40
    means, conics, _, opacities = random_splats(n, 1, seed=3)
    rng = np.random.default_rng(4)
    colors = rng.uniform(0, 1, n).astype(np.float32)
    means = (means * 0.3).astype(np.float32)
    opacities *= 0.4  # many contributors
    opacities[2] = 1.0  # and one whose alpha may be clamped
    means[2], conics[2] = 0.5, (0.1, 0.0, 0.1)
    leaves = [torch.from_numpy(x.copy()).requires_grad_() for x in (means, conics, opacities)]
    color = torch.from_numpy(colors.copy())[:, None].requires_grad_()
    offsets, ids = torch.zeros(1, 1, 1, dtype=torch.int64), torch.arange(n, dtype=torch.int32)
    renders, alphas = ops.rasterize_to_pixels(
        leaves[0][None], leaves[1][None], color[None], leaves[2][None], 1, 1, TILE, offsets, ids
    )
    (0.7 * renders.sum() - 0.4 * alphas.sum()).backward()
    render, grads = ctypes.c_float(), np.zeros((n, 7), np.float32)
    host.blend_pixel(
        n,
        pointer(means),
        pointer(conics),
        pointer(opacities),
        pointer(colors),
        ctypes.c_float(0.7),
        ctypes.c_float(-0.4),
        ctypes.byref(render),
        pointer(grads),
    )
    assert render.value == pytest.approx(renders.item(), abs=1e-6)
    wanted = torch.cat([leaves[0].grad, leaves[1].grad, leaves[2].grad[:, None], color.grad], 1)
    torch.testing.assert_close(torch.from_numpy(grads), wanted, rtol=1e-4, atol=1e-5)
    assert int((wanted.abs().sum(1) > 0).sum()) > 5


def test_blending_surfels_at_one_pixel_gives_the_cpu_gradients(host):
    n = 12
    rng = np.random.default_rng(5)
    # Tilted surfels around the ray of the pixel, farther and farther away.
    depth = np.linspace(2.0, 9.0, n)
    transforms = rng.normal(0, 0.3, (n, 3, 3))
    transforms[:, 0, 0] += 3
    transforms[:, 1, 1] += 3
    transforms[:, 2] = np.stack([rng.normal(0, 0.2, n), rng.normal(0, 0.2, n), depth], -1)
    transforms[:, :2, 2] = (0.5 + rng.normal(0, 0.4, (n, 2))) * depth[:, None]
    means = 0.5 + rng.normal(0, 2.0, (n, 2))
    f32 = lambda x: np.ascontiguousarray(x, np.float32)  # noqa: E731
    means, transforms, features = f32(means), f32(transforms), f32(rng.uniform(0, 1, n))
    opacities = f32(rng.uniform(0.1, 0.7, n))
    leaves = [torch.from_numpy(x.copy()).requires_grad_() for x in (means, transforms, opacities)]
    feature = torch.from_numpy(features.copy())[:, None].requires_grad_()
    _backend.use_native(leaves[0])
    offsets, ids = torch.zeros(1, 1, 1, dtype=torch.int64), torch.arange(n, dtype=torch.int32)
    outputs = torch.ops.mmcity.surfel_fwd(
        leaves[0], leaves[1], feature, leaves[2], None, None, offsets, ids, 1, 1, TILE
    )[:4]
    v = np.array([0.6, -0.3, 0.8, 0.05], np.float32)
    sum(float(g) * value.sum() for g, value in zip(v, outputs)).backward()
    out, grads = np.zeros(4, np.float32), np.zeros((n, 13), np.float32)
    arrays = (means, transforms, opacities, features, v, out, grads)
    host.blend_surfel_pixel(n, *map(pointer, arrays))
    wanted = torch.stack([value.flatten()[0] for value in outputs])
    torch.testing.assert_close(torch.from_numpy(out), wanted.detach(), rtol=1e-5, atol=1e-6)
    wanted = [leaves[1].grad.reshape(n, 9), leaves[0].grad, leaves[2].grad[:, None], feature.grad]
    wanted = torch.cat(wanted, 1)
    assert float(wanted[:, :9].abs().max()) > 1e-3 and outputs[2].item() > 0
    torch.testing.assert_close(torch.from_numpy(grads), wanted, rtol=2e-3, atol=2e-5)


def test_bricks_of_boxes_are_counted_and_numbered(host):
    dims = np.array([13, 9, 21], np.int32)
    count = [-(-int(d) // 4) for d in dims]
    rng = np.random.default_rng(6)
    for _ in range(50):
        a, b = rng.integers(0, dims), rng.integers(0, dims)
        lo, hi = np.minimum(a, b).astype(np.int32), np.maximum(a, b).astype(np.int32)
        out = np.zeros(int(np.prod(count)), np.int64)
        n = host.bricks_of(pointer(dims), pointer(lo), pointer(hi), 4, pointer(out))
        cells = itertools.product(*(range(lo[d], hi[d] + 1) for d in range(3)))
        wanted = {(x // 4 * count[1] + y // 4) * count[2] + z // 4 for x, y, z in cells}
        assert sorted(out[:n].tolist()) == sorted(wanted)


def test_morton_keys_interleave_and_float_keys_keep_order(host):
    host.morton.restype = host.order_key.restype = host.order_back.restype = ctypes.c_uint32
    lo, hi = np.zeros(3, np.float32), np.full(3, 1024, np.float32)
    for cell in ((0, 0, 0), (1, 2, 3), (1023, 0, 512), (1023, 1023, 1023)):
        bits = [[cell[d] >> k & 1 for d in range(3)] for k in range(10)]
        wanted = sum(b << (3 * k + 2 - d) for k, row in enumerate(bits) for d, b in enumerate(row))
        point = np.array(cell, np.float32) + 0.5
        assert host.morton(pointer(point), pointer(lo), pointer(hi)) == wanted
    values = np.array([-np.inf, -3.5, -1e-30, 0.0, 1e-30, 2.0, np.inf], np.float32)
    raw = values.view(np.uint32).tolist()
    keys = [host.order_key(ctypes.c_uint32(bits)) for bits in raw]
    assert keys == sorted(keys)
    assert [host.order_back(ctypes.c_uint32(key)) for key in keys] == raw


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1024, 1025, 2**31, 2**62, 2**62 + 1, 2**63 - 1])
def test_bits_number_that_many_things(host, count):
    assert host.bits_needed(ctypes.c_int64(count)) == max(count - 1, 0).bit_length()
