"""What makes appearance Gaussians quick and start well changes nothing that it should not."""

import pytest
import torch

from mmcity.models.rap import AppearanceGaussians, AppearanceMapGenerator
from mmcity.structures import Cameras
from mmcity.structures.geometry import look_at
from mmcity.utils.setup_env import register_all_modules

HEIGHT, WIDTH = 36, 48


def small_model(**options) -> AppearanceGaussians:
    """A ball of 300 points about the origin, which a camera in it sees a part of."""
    register_all_modules()
    torch.manual_seed(0)
    options.setdefault("init", dict(scale_factor=0.15))
    options.setdefault("appearance", dict(map_generator=dict(
        type="AppearanceMapGenerator", width=0.125)))  # fmt: skip
    model = AppearanceGaussians(**options)
    random = torch.Generator().manual_seed(0)
    points = 3 * torch.randn(300, 3, generator=random)
    model.initialize(camera(), points, torch.rand(300, 3, generator=random), generator=random)
    return model.eval()


def camera() -> Cameras:
    viewmat = look_at(torch.tensor([0.5, -0.3, -1.0]), torch.tensor([0.0, 0.0, 3.0]))
    K = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]])
    return Cameras(K, viewmat[None], WIDTH, HEIGHT)


def test_colours_of_what_is_not_in_view_are_not_needed():
    model = small_model()
    photograph = torch.rand(3, HEIGHT, WIDTH)
    rows = model._rows_in_view(camera())
    assert 30 < len(rows) < 200  # most points lie beside the picture or behind it
    means = model.splats.means
    whole = model._render_one(camera(), model._encode(photograph, camera(), 1.0)[0], means)
    codes = model._encode(photograph, camera(), 1.0, rows)[0]
    part = model._render_one(camera(), codes, means, rows=rows)
    assert whole["rgb"].std() > 0.005
    torch.testing.assert_close(part["rgb"], whole["rgb"], rtol=0, atol=1e-6)
    # Gradients of what is seen are the same, too.
    grads = []
    for out in (whole, part):
        model.zero_grad()
        out["rgb"].square().sum().backward()
        grads.append((model.splats.f_intr.grad.clone(), model.splats.means.grad.clone()))
    for one, other in zip(*grads):
        assert one.abs().max() > 0
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6 * float(one.abs().max()) + 1e-7)


def test_a_scene_with_base_colours_starts_as_its_points_look():
    plain = small_model(use_color_net=False, appearance=None, sh_degree=0)
    based = small_model(base_colors=True)
    model = small_model()
    want = plain.render(camera())["rgb"]
    based.set_appearance(torch.rand(3, HEIGHT, WIDTH), camera())
    torch.testing.assert_close(based.render(camera())["rgb"], want, rtol=0, atol=1e-5)
    # Published: the first colours are what the network's random weights say.
    assert (model.render(camera())["rgb"] - want).abs().mean() > 0.3 * want.mean()
    # What is learnt comes on top of the base colour of each Gaussian.
    with torch.no_grad():
        based.appearance.color_net.color_decoder.lin1.bias += 0.25
    based.set_appearance(torch.rand(3, HEIGHT, WIDTH), camera())
    lifted = based.render(camera())
    torch.testing.assert_close(
        lifted["rgb"] - want, 0.25 * lifted["alpha"].expand_as(want), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(("width", "share"), [(1.0, 1.0), (0.25, 1 / 16)])
def test_narrow_map_generator(width, share):
    narrow = AppearanceMapGenerator(width=width).eval()
    assert narrow(torch.rand(3, 50, 70)).shape == (3, 16, 25, 35)
    count = sum(p.numel() for p in narrow.parameters())
    assert count == pytest.approx(share * 14.32e6, rel=0.02)


def test_a_view_of_nothing_gives_no_colours_and_no_error():
    """No Gaussian projects into the photograph: zeros and a count, where others fail."""
    model = small_model()
    photograph = torch.rand(3, HEIGHT, WIDTH)
    turned = look_at(torch.tensor([0.0, 0.0, -40.0]), torch.tensor([0.0, 0.0, -50.0]))
    away = Cameras(camera().Ks, turned[None], WIDTH, HEIGHT)
    vector, valid = model.appearance.appearance(
        photograph, model.splats.means, model.splats.box_coords, away.Ks[0], away.viewmats[0]
    )
    assert int(valid.sum()) == 0 and vector[:, -16:].abs().max() == 0
    rows = model._rows_in_view(away)
    assert len(rows) == 0
    codes = model._encode(photograph, away, 1.0, rows)[0]
    out = model._render_one(away, codes, model.splats.means, rows=rows)
    assert out["alpha"].max() == 0 and out["rgb"].isfinite().all()
