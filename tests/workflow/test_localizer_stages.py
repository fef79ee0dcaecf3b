"""What the steps to a localiser hand to the functions that do the work."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmcity.cli.flags import function_arguments
from mmcity.cli.main import build_parser
from mmcity.datasets.alignment import align_scene
from mmcity.datasets.converters import map_pictures
from mmcity.engine.launch import find_hook, load_config
from mmcity.workflow import PoseNetwork, cfg_options
from mmcity.workflow.localization import ScenePoses
from tests.cli.conftest import REPO


def test_pictures_are_mapped_as_the_user_asks_and_made_metric(tmp_path):
    words = ["PICTURES", "OUT", "--mapping-options", "--matching sequential --overlap 5"]
    args = build_parser("verbs", "make-localizer", "mmcity").parse_args(words)
    calls = []
    context = SimpleNamespace(
        folder=tmp_path / "poses", seed=3, call=lambda *args, **kwargs: calls.append((args, kwargs))
    )
    stage = ScenePoses(
        str(tmp_path), positions="gps.csv", mapping=function_arguments(args)["mapping"]
    )
    made = stage.run(context)
    scene = tmp_path / "poses" / "scene"
    assert calls == [
        (
            (map_pictures, tmp_path, scene),
            dict(test_every=10, seed=3, matching="sequential", overlap=5),
        ),
        ((align_scene, scene, "gps.csv"), dict(out=tmp_path / "poses" / "alignment.json")),
    ]
    assert made == {"scene": scene, "alignment": tmp_path / "poses" / "alignment.json"}


LISTED = """
map_path = "work_dirs/map.ply"
custom_hooks = [dict(type="PoseFrameHook"), dict(type="ViewSynthesisHook", map=map_path)]
"""


@pytest.mark.filterwarnings("ignore:.*custom_hooks")
@pytest.mark.parametrize(
    "text, option, place",
    [
        ("", None, "default_hooks.view_synthesis"),
        ("", "map_path", "default_hooks.view_synthesis"),
        (LISTED, None, "custom_hooks.1"),
        (LISTED, "custom_hooks.1.map", "custom_hooks.1"),
    ],
)
def test_the_map_goes_to_the_hook_that_renders_it(tmp_path, text, option, place):
    """Named in the config, or listed, as in a user's config of before hooks had names."""
    config = tmp_path / "user.py"
    base = str(REPO / "configs" / "rap" / "rap_colmap_cpu.py")
    config.write_text(f"_base_ = [{base!r}]\n{text}")
    trained = {}

    def train(path, values):
        trained.update(values)
        return tmp_path / "epoch_1.pth"

    context = SimpleNamespace(
        folder=tmp_path,
        artefact=lambda stage, name: Path("/made") / stage / name,
        find=lambda stage, name: None,
        train=train,
    )
    PoseNetwork(str(config), option).run(context)
    cfg = load_config(config, cfg_options(trained))
    assert find_hook(cfg, "ViewSynthesisHook") == place
    hook = cfg.custom_hooks[1] if text else cfg.default_hooks.view_synthesis
    assert hook.map == "/made/baked/scene" and cfg.data_root == "/made/poses/scene"
