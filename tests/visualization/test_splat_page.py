"""The page of a scene: opens alone, shows what our renderer shows, and tells what it cannot."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.structures import Cameras, Gaussians, SplatInfo
from mmcity.structures.io.gaussians_spz import read_spz_bytes
from mmcity.visualization import splat_page
from mmcity.visualization.splat_page import write_splat_page
from mmcity_ops import rasterization
from tests.structures.io.test_gaussian_formats import scene
from tests.visualization.chromium import Page

SIZE = (256, 192)
K = torch.tensor([[220.0, 0, 128], [0, 210, 96], [0, 0, 1]])


def dense(count=2000, degree=3, seed=0):
    """A ball of overlapping Gaussians, far from the origin, with some nearly flat ones."""
    g = scene(count, degree, seed)
    g.means = g.means / 20 + torch.tensor([300.0, -100, 20])
    g.scales = g.scales * torch.tensor([0.6, 0.4, 0.05])
    return g


def looking_at(middle, away):
    forward = -away / away.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0, 1]))
    right = right / right.norm()
    view = torch.eye(4)
    view[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    view[:3, 3] = -view[:3, :3] @ (middle + away)
    return view


def opened(path, size=(640, 480)):
    page = Page(path.as_uri(), size=size)
    page.text_with("Gaussians, SH")
    return page


def held(path):
    """Gaussians of a page, about the middle of their scene."""
    text = path.read_text().partition('octet-stream">')[2].partition("<")[0]
    return read_spz_bytes(base64.b64decode(text), path)[0]


def psnr(a, b):
    return -10 * np.log10(np.mean((a - b) ** 2))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("model", ["default", "antialiased"])
def test_the_page_draws_what_our_renderer_draws(tmp_path, model):
    g, path = dense(), tmp_path / "a.html"
    said = write_splat_page(g, path, info=SplatInfo(model=model))
    assert said.model == model
    view = looking_at(g.means.mean(0), torch.tensor([2.0, -4.0, 1.5]))

    with opened(path) as page:
        assert page.evaluate("mmcity.ready.then(() => mmcity.count)") == len(g)
        camera = [*view.ravel().tolist()], 220, 210, 128, 96, *SIZE
        page.evaluate(f"mmcity.setCamera({', '.join(map(str, camera))})")
        url = page.evaluate(
            "mmcity.draw().then(() => document.querySelector('canvas').toDataURL())"
        )
        assert page.errors == []
        assert page.evaluate("performance.getEntriesByType('resource').length") == 0
        shown = page.screenshot()

    got = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
    kept = held(path)
    middle = torch.tensor(splat_page_origin(path), dtype=torch.float64)
    kept.means = (kept.means.double() + middle).float()
    picture, _, _ = rasterization(
        kept.means, kept.quats, kept.scales, kept.opacities, kept.sh, view[None], K[None], *SIZE,
        sh_degree=3, rasterize_mode={"default": "classic"}.get(model, model),
    )  # fmt: skip
    want = picture[0].clamp(0, 1).numpy()
    assert (want.max(-1) > 0.05).mean() > 0.1
    assert psnr(got / 255, want) >= 35
    other = rasterization(
        kept.means, kept.quats, kept.scales, kept.opacities, kept.sh, view[None], K[None], *SIZE,
        sh_degree=3, rasterize_mode="antialiased" if model == "default" else "classic",
    )[0][0].clamp(0, 1)  # fmt: skip
    assert psnr(got / 255, other.numpy()) < psnr(got / 255, want) - 3  # the mode counts
    assert (shown > 20).any()


def splat_page_origin(path):
    import json

    text = path.read_text().partition('application/json">')[2].partition("</script>")[0]
    return json.loads(text)["origin"]


@pytest.mark.timeout(300)
def test_keys_step_through_cameras_and_drags_turn(tmp_path):
    g, path = dense(), tmp_path / "a.html"
    middle = g.means.mean(0)
    views = [looking_at(middle, torch.tensor(away)) for away in ([4.0, 0, 1], [0.0, 4, 1])]
    cameras = Cameras(K, torch.stack(views), *SIZE)
    write_splat_page(
        g, path, cameras=cameras, names=["a/1.jpg", "</script><b>2"], title="A <b> & c"
    )

    with opened(path) as page:
        assert "A <b> & c" in page.text_with("a/1.jpg") and "1 of 2: a/1.jpg" in page.text_with(
            "1 of"
        )
        first = page.screenshot()
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="n", code="KeyN")
        assert "2 of 2: </script><b>2" in page.text_with("2 of 2")
        page.wait(0.5)
        second = page.screenshot()
        for number, kind in enumerate(("mousePressed", "mouseMoved", "mouseReleased")):
            page.call("Input.dispatchMouseEvent", type=kind, x=300 + 40 * number, y=200,
                      button="left", buttons=1, clickCount=1)  # fmt: skip
        page.wait(0.5)
        third = page.screenshot()
        assert page.errors == []
    assert np.abs(first.astype(int) - second).max() > 50
    assert np.abs(second.astype(int) - third).max() > 50


@pytest.mark.timeout(120)
def test_a_browser_without_webgl_is_told(tmp_path):
    path = tmp_path / "a.html"
    write_splat_page(dense(20), path)
    text = path.read_text().replace('getContext("webgl2"', 'getContext("none"')
    path.write_text(text)
    with Page(path.as_uri()) as page:
        assert "This page needs WebGL 2" in page.text_with("needs WebGL")
        assert page.errors == []


def test_the_page_is_small_and_names_no_other_place(tmp_path):
    path = tmp_path / "a.html"
    write_splat_page(dense(20), path)
    text = path.read_text()
    assert len(splat_page._TEMPLATE.read_bytes()) < 60_000
    assert "http://" not in text and "https://" not in text
    assert "default-src 'none'" in text and "connect-src" not in text


def test_view_dependence_of_large_scenes_is_cut_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(splat_page, "_MANY", 50)
    monkeypatch.setattr(splat_page, "_MOST", 100)
    path = tmp_path / "a.html"
    assert write_splat_page(dense(40), path).lost[0].startswith("positions")
    assert held(path).sh_degree == 3
    said = write_splat_page(dense(60), path)
    assert said.lost[0] == "SH cut from degree 3 to 1" and held(path).sh_degree == 1
    assert write_splat_page(dense(60), path, sh=2).lost[0] == "SH cut from degree 3 to 2"
    with pytest.raises(ValueError, match=r"a\.html: expected at most 100 .* lod-meta\.json"):
        write_splat_page(dense(101), path)


def test_plain_colours_become_a_page_too(tmp_path):
    g = dense(20)
    plain = Gaussians(g.means, g.quats, g.scales, g.opacities, features=g.colors.clamp(0, 1))
    write_splat_page(plain, tmp_path / "a.html")
    assert (held(tmp_path / "a.html").colors - plain.features).abs().max() < 0.01
