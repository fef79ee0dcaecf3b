"""Properties of tile lists and compositing that hold for any scene, and their edge cases."""

import math
import threading

import pytest
import torch

import mmcity_ops
from mmcity_ops.functional.intersection import force_wide_ids


def make_scene(count=60, images=2, channels=3, width=50, height=37, dtype=torch.float64, seed=0):
    """Random anisotropic splats over an image: rows for rasterize_to_pixels, radii, depths."""
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(images, count, 2, generator=g) * torch.tensor([width, height])
    angle = torch.rand(images, count, generator=g) * math.pi
    size = torch.rand(images, count, 2, generator=g) * 5 + 0.5
    c, s = angle.cos(), angle.sin()
    a, b = size.unbind(-1)
    xx, yy, xy = c * c * a + s * s * b, s * s * a + c * c * b, c * s * (a - b)
    det = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], -1) / det[..., None]
    radii = torch.ceil(3.33 * torch.stack([xx, yy], -1).sqrt()).int()
    opacities = torch.rand(images, count, generator=g) * 0.95 + 0.05
    colors = torch.rand(images, count, channels, generator=g)
    depths = torch.rand(images, count, generator=g) * 9 + 1
    rows = [t.to(dtype) for t in (means, conics, colors, opacities)]
    return rows, radii, depths.to(dtype), width, height


def render(rows, radii, depths, width, height, ts=16, exact=True, requires=True, **kwargs):
    """Lists and images; returns renders, alphas and the leaves with gradients of a random loss."""
    th, tw = -(-height // ts), -(-width // ts)
    leaves = [row.detach().clone().requires_grad_(requires) for row in rows]
    bounds = {"conics": rows[1], "opacities": rows[3]} if exact else {}
    masks = kwargs.get("masks")
    lists = mmcity_ops.tile_lists(rows[0], radii, depths, ts, tw, th, masks=masks, **bounds)
    renders, alphas = mmcity_ops.rasterize_to_pixels(
        *leaves, width, height, ts, lists.isect_offsets, lists.flatten_ids, **kwargs
    )
    if requires:
        g = torch.Generator().manual_seed(7)
        v = torch.rand(renders.shape, generator=g, dtype=torch.float64).to(renders.dtype)
        va = torch.rand(alphas.shape, generator=g, dtype=torch.float64).to(renders.dtype)
        torch.autograd.backward([renders, alphas], [v, va])
    return renders, alphas, leaves


def assert_same(first, second, tolerance=1e-10):
    torch.testing.assert_close(first[0], second[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(first[1], second[1], rtol=tolerance, atol=tolerance)
    for a, b in zip(first[2], second[2]):
        torch.testing.assert_close(a.grad, b.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 19])
def test_native_equals_reference(channels, monkeypatch):
    scene = make_scene(channels=channels)
    backgrounds = torch.linspace(0, 1, 2 * channels, dtype=torch.float64).reshape(2, channels)
    native = render(*scene, backgrounds=backgrounds, absgrad=True)
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    reference = render(*scene, backgrounds=backgrounds, absgrad=True)
    assert_same(native, reference)
    torch.testing.assert_close(native[2][0].absgrad, reference[2][0].absgrad)


@pytest.mark.parametrize("ts", [4, 8, 10, 20, 32])
def test_tile_size_does_not_change_the_image(ts):
    scene = make_scene()
    assert_same(render(*scene, ts=ts), render(*scene, ts=16))


def test_float32_stays_close_to_float64():
    wide, narrow = (
        render(*make_scene(channels=7)),
        render(*make_scene(channels=7, dtype=torch.float32)),
    )
    torch.testing.assert_close(narrow[0].double(), wide[0], rtol=0, atol=2e-5)
    for a, b in zip(narrow[2], wide[2]):
        assert (a.grad.double() - b.grad).norm() < 1e-4 * b.grad.norm()


def test_permuting_the_gaussians_leaves_images_unchanged():
    rows, radii, depths, width, height = make_scene(images=1)
    order = torch.randperm(rows[0].shape[1], generator=torch.Generator().manual_seed(3))
    first = render(rows, radii, depths, width, height)
    permuted = [row[:, order] for row in rows]
    second = render(permuted, radii[:, order], depths[:, order], width, height)
    assert torch.equal(first[0], second[0])
    for a, b in zip(first[2], second[2]):
        assert torch.equal(a.grad[:, order], b.grad)


def test_packed_rows_equal_dense_rows():
    rows, radii, depths, width, height = make_scene()
    radii = radii.clone()
    radii[:, ::3] = 0  # culled rows
    dense = render(rows, radii, depths, width, height)
    keep = (radii > 0).all(-1)
    image_ids = keep.nonzero()[:, 0]
    leaves = [row[keep].detach().requires_grad_() for row in rows]
    th, tw = -(-height // 16), -(-width // 16)
    lists = mmcity_ops.tile_lists(
        leaves[0], radii[keep], depths[keep], 16, tw, th, conics=leaves[1], opacities=leaves[3],
        image_ids=image_ids, n_images=2,
    )  # fmt: skip
    renders, alphas = mmcity_ops.rasterize_to_pixels(
        *leaves, width, height, 16, lists.isect_offsets, lists.flatten_ids, packed=True
    )
    assert torch.equal(renders, dense[0]) and torch.equal(alphas, dense[1])


def test_cameras_at_once_equal_a_loop():
    rows, radii, depths, width, height = make_scene()
    both = render(rows, radii, depths, width, height)
    for i in range(2):
        one = render([row[i] for row in rows], radii[i], depths[i], width, height)
        assert torch.equal(one[0][0], both[0][i]) and torch.equal(one[1][0], both[1][i])


def test_64_channels_equal_two_renders_of_32():
    rows, *rest = make_scene(channels=64)
    whole = render(rows, *rest)
    for part in (slice(0, 32), slice(32, 64)):
        half = render([rows[0], rows[1], rows[2][..., part], rows[3]], *rest)
        torch.testing.assert_close(half[0], whole[0][..., part], rtol=1e-12, atol=1e-12)


def test_masked_tile_shows_the_background_and_gives_gradients_to_it_alone():
    scene = make_scene()
    th, tw = 3, 4
    masks = torch.ones(2, th, tw, dtype=torch.bool)
    masks[0, 1, 2] = masks[1] = False
    backgrounds = torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    renders, alphas, leaves = render(*scene, masks=masks, backgrounds=backgrounds)
    tile = renders[0, 16:32, 32:48]
    assert torch.equal(tile, backgrounds[0].detach().expand_as(tile))
    assert (alphas[1] == 0).all() and (leaves[0].grad[1] == 0).all()
    assert (backgrounds.grad > 0).all()


def test_zero_opacity_is_as_good_as_absent():
    rows, radii, depths, width, height = make_scene(images=1)
    rows[3][:, ::2] = 0
    hidden = render(rows, radii, depths, width, height)
    kept = render([row[:, 1::2] for row in rows], radii[:, 1::2], depths[:, 1::2], width, height)
    assert torch.equal(hidden[0], kept[0])
    assert (hidden[2][2].grad[:, ::2] == 0).all()


def test_splats_of_one_depth_keep_the_order_of_rows():
    rows, radii, depths, width, height = make_scene(images=1)
    lists = mmcity_ops.tile_lists(rows[0], radii, torch.ones_like(depths), 16, 4, 3)
    ends = [*lists.isect_offsets.flatten().tolist()[1:], len(lists.flatten_ids)]
    for begin, end in zip(lists.isect_offsets.flatten().tolist(), ends):
        ids = lists.flatten_ids[begin:end]
        assert torch.equal(ids, ids.sort().values)


def test_negative_depths_sort_before_positive_ones(monkeypatch):
    means = torch.full((1, 4, 2), 8.0)
    radii = torch.full((1, 4, 2), 3, dtype=torch.int32)
    depths = torch.tensor([[2.0, -1.0, -5.0, 0.5]])
    for backend in ("native", "reference"):
        monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
        assert mmcity_ops.isect_tiles(means, radii, depths, 16, 1, 1)[2].tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("channels", [3, 9])
def test_gradients_are_bitwise_equal_for_any_number_of_threads(channels):
    scene = make_scene(count=3000, width=160, height=120, channels=channels, dtype=torch.float32)
    backgrounds = torch.rand(2, channels)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            leaf = backgrounds.clone().requires_grad_()
            out = render(*scene, backgrounds=leaf, absgrad=True)
            results.append(
                [out[0], out[1], *(t.grad for t in out[2]), out[2][0].absgrad, leaf.grad]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_wide_ids_give_the_same_result():
    scene = make_scene()
    narrow = render(*scene)
    force_wide_ids(True)
    try:
        wide = render(*scene)
    finally:
        force_wide_ids(False)
    assert torch.equal(narrow[0], wide[0])
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(narrow[2], wide[2]))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_capacity_mode_pads_the_lists_and_tells_when_they_overflow(backend, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    rows, radii, depths, width, height = make_scene()
    args = (rows[0], radii, depths, 16, 4, 3)
    exact = mmcity_ops.tile_lists(*args)
    roomy = mmcity_ops.tile_lists(*args, max_isects=len(exact.flatten_ids) + 50)
    tight = mmcity_ops.tile_lists(*args, max_isects=100)
    assert len(roomy.flatten_ids) == len(exact.flatten_ids) + 50
    assert roomy.n_found == tight.n_found == len(exact.flatten_ids) > len(tight.flatten_ids)
    assert torch.equal(tight.flatten_ids, exact.flatten_ids[:100])
    images = [
        mmcity_ops.rasterize_to_pixels(
            *rows, width, height, 16, lists.isect_offsets, lists.flatten_ids
        )[0]
        for lists in (exact, roomy, tight)
    ]
    assert torch.equal(images[0], images[1]) and torch.isfinite(images[2]).all()


def test_statistics_match_the_reference(monkeypatch):
    scene = make_scene()
    native, reference = {}, {}
    render(*scene, requires=False, stats=native)
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    render(*scene, requires=False, stats=reference)
    assert torch.equal(native["last_ids"], reference["last_ids"])
    assert torch.equal(native["n_touched"], reference["n_touched"])
    torch.testing.assert_close(native["max_weight"], reference["max_weight"])


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_every_instruction_set_gives_the_same_image(isa, run_python):
    script = """
import sys; sys.path.insert(0, "tests/ops")
import torch, test_rasterize as t
out = t.render(*t.make_scene(channels=CH, dtype=torch.float32))
torch.save([out[0].detach(), out[1].detach(), *(x.grad for x in out[2])], sys.argv[1])
"""
    for channels in (3, 6):
        wide = render(*make_scene(channels=channels, dtype=torch.float32))
        other = run_python(script.replace("CH", str(channels)), env={"MMCITY_OPS_ISA": isa})
        torch.testing.assert_close(other[0], wide[0], rtol=0, atol=5e-6)
        for got, leaf in zip(other[2:], wide[2]):
            assert (got - leaf.grad).norm() < 1e-5 * leaf.grad.norm()


@pytest.fixture
def run_python(tmp_path):
    """Run a script in a fresh process and load the tensors that it saved to its argument."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    def run(script: str, env: dict[str, str]):
        out = tmp_path / "out.pt"
        root = Path(__file__).resolve().parents[2]
        subprocess.run(
            [sys.executable, "-c", script, str(out)], check=True, cwd=root, env=os.environ | env
        )
        return torch.load(out, weights_only=True)

    return run


def opacities_that_end_at_the_threshold(dtype):
    """Three opacities whose transmittances multiply to 1e-4 exactly in ``dtype``."""
    stop = torch.tensor(1e-4, dtype=dtype)
    second = torch.tensor(0.95, dtype=dtype)
    for step in range(2000):
        first = torch.tensor(0.95 + 1e-5 * step, dtype=dtype)
        before = (1 - first) * (1 - second)
        third = 1 - stop / before
        if torch.equal(before * (1 - third), stop):
            return torch.stack([first, second, third])
    raise AssertionError("none found")


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 6])
def test_an_entry_at_the_threshold_is_blended_by_inria_only(backend, dtype, channels, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
    opacities = opacities_that_end_at_the_threshold(dtype)[None]
    means = torch.full((1, 3, 2), 0.5, dtype=dtype)  # on the pixel: alpha is the opacity
    conics = torch.tensor([1.0, 0.0, 1.0], dtype=dtype).expand(1, 3, 3)
    colors = torch.ones(1, 3, channels, dtype=dtype)
    offsets, ids = torch.zeros(1, 1, 1, dtype=torch.int64), torch.arange(3, dtype=torch.int32)
    first, second, third = opacities[0]
    before = (1 - first) * (1 - second)
    for semantics, left in (("default", before), ("inria", before * (1 - third))):
        renders, alphas = mmcity_ops.rasterize_to_pixels(
            means, conics, colors, opacities, 1, 1, 16, offsets, ids, semantics=semantics
        )
        assert torch.equal(1 - alphas.flatten()[0], 1 - (1 - left))
        torch.testing.assert_close(renders, alphas.expand_as(renders))
    with pytest.raises(ValueError, match="semantics: expected one of default, inria"):
        mmcity_ops.rasterize_to_pixels(
            means, conics, colors, opacities, 1, 1, 16, offsets, ids, semantics="other"
        )


class TestEdges:
    """Empty scenes, odd sizes and refused arguments."""

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_no_gaussian_gives_the_background_and_zero_gradients(self, backend, monkeypatch):
        monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)
        rows, radii, depths, width, height = make_scene(count=0)
        backgrounds = torch.rand(2, 3, dtype=torch.float64)
        renders, alphas, leaves = render(
            rows, radii, depths, width, height, backgrounds=backgrounds
        )
        assert torch.equal(renders, backgrounds[:, None, None].expand_as(renders))
        assert (alphas == 0).all() and leaves[0].grad.shape == (2, 0, 2)

    @pytest.mark.parametrize("channels", [3, 8])
    def test_all_culled(self, channels):
        rows, radii, depths, width, height = make_scene(channels=channels)
        renders, _, leaves = render(rows, torch.zeros_like(radii), depths, width, height)
        assert (renders == 0).all() and all((leaf.grad == 0).all() for leaf in leaves)

    def test_one_pixel(self):
        rows, radii, depths, *_ = make_scene(width=1, height=1)
        renders, alphas, _ = render(rows, radii, depths, 1, 1)
        assert renders.shape == (2, 1, 1, 3) and (alphas > 0).all()

    def test_far_and_non_finite_means_are_listed_nowhere_or_clamped(self):
        means = torch.tensor([[[1e9, 3.0], [float("nan"), 2.0], [5.0, 5.0], [-1e9, 1e9]]])
        radii = torch.full((1, 4, 2), 2**30, dtype=torch.int32)
        radii[0, 2] = 4
        counts = mmcity_ops.isect_tiles(means, radii, torch.ones(1, 4), 16, 3, 2)[0]
        assert counts[0, 1] == 0 and counts[0, 2] == 1

    def test_non_contiguous_inputs(self):
        rows, radii, depths, width, height = make_scene()
        strided = [row.transpose(0, 1).contiguous().transpose(0, 1) for row in rows]
        assert not strided[0].is_contiguous()
        assert torch.equal(
            render(rows, radii, depths, width, height, requires=False)[0],
            render(strided, radii, depths, width, height, requires=False)[0],
        )

    @pytest.mark.parametrize("channels", [3, 9])
    @pytest.mark.parametrize("only", range(4))
    def test_gradients_of_one_input_alone(self, only, channels):
        scene = make_scene(channels=channels)
        full = render(*scene)
        rows, radii, depths, width, height = scene
        leaves = [row.detach().clone().requires_grad_(i == only) for i, row in enumerate(rows)]
        lists = mmcity_ops.tile_lists(
            rows[0], radii, depths, 16, 4, 3, conics=rows[1], opacities=rows[3]
        )
        renders, alphas = mmcity_ops.rasterize_to_pixels(
            *leaves, width, height, 16, lists.isect_offsets, lists.flatten_ids
        )
        g = torch.Generator().manual_seed(7)
        v = torch.rand(renders.shape, generator=g, dtype=torch.float64)
        va = torch.rand(alphas.shape, generator=g, dtype=torch.float64)
        torch.autograd.backward([renders, alphas], [v, va])
        torch.testing.assert_close(leaves[only].grad, full[2][only].grad, rtol=1e-12, atol=1e-12)
        assert [leaf.grad is not None for leaf in leaves] == [i == only for i in range(4)]

    def test_shapes_are_checked_and_named(self):
        rows, radii, depths, width, height = make_scene()
        lists = mmcity_ops.tile_lists(rows[0], radii, depths, 16, 4, 3)
        tail = (width, height, 16, lists.isect_offsets, lists.flatten_ids)
        with pytest.raises(ValueError, match=r"conics: expected shape \[2, 60, 3\]"):
            mmcity_ops.rasterize_to_pixels(rows[0], rows[1][..., :2], *rows[2:], *tail)
        with pytest.raises(ValueError, match="backgrounds"):
            mmcity_ops.rasterize_to_pixels(*rows, *tail, backgrounds=torch.zeros(2, 4))
        with pytest.raises(ValueError, match="isect_offsets"):
            mmcity_ops.rasterize_to_pixels(*rows, 200, *tail[1:])
        with pytest.raises(TypeError, match="conics"):
            mmcity_ops.rasterize_to_pixels(rows[0], rows[1].float(), *rows[2:], *tail)
        with pytest.raises(ValueError, match="64"):
            mmcity_ops.isect_offset_encode(lists.isect_ids, 2**20, 2**8, 2**8)

    def test_ids_beyond_the_rows_are_refused(self):
        rows, radii, depths, width, height = make_scene(images=1)
        lists = mmcity_ops.tile_lists(rows[0], radii, depths, 16, 4, 3)
        ids = lists.flatten_ids.clone()
        ids[3] = -7
        with pytest.raises((IndexError, ValueError), match="flatten_ids|isect_offsets"):
            mmcity_ops.rasterize_to_pixels(*rows, width, height, 16, lists.isect_offsets, ids)
        with pytest.raises(IndexError, match="flatten_ids"):
            mmcity_ops.rasterize_to_pixels(
                *(row[:, :5] for row in rows), width, height, 16, lists.isect_offsets,
                lists.flatten_ids,
            )  # fmt: skip

    def test_double_backward_is_refused(self):
        rows, radii, depths, width, height = make_scene(count=5)
        lists = mmcity_ops.tile_lists(rows[0], radii, depths, 16, 4, 3)
        means = rows[0].requires_grad_()
        renders, _ = mmcity_ops.rasterize_to_pixels(
            means, *rows[1:], width, height, 16, lists.isect_offsets, lists.flatten_ids
        )
        (grad,) = torch.autograd.grad(renders.sum(), means, create_graph=True)
        with pytest.raises(RuntimeError, match="double backward"):
            grad.sum().backward()

    def test_two_python_threads_render_at_once(self):
        scene = make_scene(count=500)
        want = render(*scene, requires=False)[0]
        results: list = []
        workers = [
            threading.Thread(target=lambda: results.append(render(*scene, requires=False)[0]))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 2 and all(torch.equal(result, want) for result in results)


@pytest.mark.parametrize("channels", [3, 5])
def test_gradcheck(channels):
    rows, radii, depths, width, height = make_scene(8, 1, channels, width=20, height=14, seed=2)
    lists = mmcity_ops.tile_lists(rows[0], radii, depths, 16, 2, 1)
    backgrounds = torch.rand(1, channels, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (*rows, backgrounds)]

    def run(means, conics, colors, opacities, background):
        return mmcity_ops.rasterize_to_pixels(
            means, conics, colors, opacities, width, height, 16, lists.isect_offsets,
            lists.flatten_ids, background,
        )  # fmt: skip

    # A step must not carry an alpha over 1/255: compare along one random direction.
    assert torch.autograd.gradcheck(run, leaves, eps=1e-7, atol=2e-5, rtol=1e-4, fast_mode=True)


def test_opcheck():
    rows, radii, depths, width, height = make_scene(20, 1, dtype=torch.float32)
    flat = [row[0].contiguous() for row in rows]
    leaves = [row.requires_grad_() for row in flat]
    lists = mmcity_ops.tile_lists(rows[0], radii, depths, 16, 4, 3)
    torch.library.opcheck(
        torch.ops.mmcity.isect_tiles.default,
        (rows[0], radii, depths, rows[1], rows[3], None, None, 1, 16, 4, 3, -1, False),
    )
    torch.library.opcheck(
        torch.ops.mmcity.rasterize_fwd.default,
        (*leaves, torch.rand(1, 3), None, None, lists.isect_offsets, lists.flatten_ids, None,
         width, height, 16, False, 1e-4),
    )  # fmt: skip
