"""Scenes of files of Gaussians: which renderer they are for."""

import pytest

from mmcity.apis import SceneRenderer
from mmcity.engine import scene_loading
from mmcity.engine.scene_loading import info_of_scene, load_scene
from mmcity.structures import SplatInfo, write_gaussians
from tests.formats import SUFFIXES
from tests.structures.io.test_gaussian_formats import scene

CLASSIC = dict(model=dict(type="GaussianSplatting", sh_degree=3))


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(scene_loading, "print_log", lambda text, *_: said.append(text))
    return said


@pytest.mark.parametrize(
    ("model", "config", "antialiased", "expected", "told"),
    [
        ("default", None, None, False, False),
        ("antialiased", None, None, True, False),
        ("2dgs", None, None, False, False),
        ("antialiased", None, False, False, True),
        ("default", None, True, True, False),
        ("2dgs", None, True, True, True),
        ("antialiased", CLASSIC, None, False, True),
        ("antialiased", CLASSIC, True, True, False),
    ],
)
def test_a_file_tells_the_renderer_unless_an_argument_does(
    tmp_path, warnings, model, config, antialiased, expected, told
):
    write_gaussians(scene(4, degree=1), tmp_path / "a.ply", info=SplatInfo(model=model))

    loaded = load_scene(tmp_path / "a.ply", config, antialiased)

    assert loaded.is_antialiased is expected
    assert info_of_scene(loaded).model == ("antialiased" if expected else "default")
    assert len(warnings) == told
    assert not told or f"a.ply says that it was trained with the {model} renderer" in warnings[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_may_be_of_any_format(tmp_path, suffix):
    write_gaussians(scene(4, degree=1), tmp_path / f"a{suffix}")

    renderer = SceneRenderer(weights=tmp_path / f"a{suffix}", device="cpu")

    assert len(renderer.model.splats) == 4
