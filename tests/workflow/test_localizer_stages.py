"""What the steps to a localiser hand to the functions that do the work."""

from types import SimpleNamespace

from mmcity.cli.flags import function_arguments
from mmcity.cli.main import build_parser
from mmcity.datasets.alignment import align_scene
from mmcity.datasets.converters import map_pictures
from mmcity.workflow.localization import ScenePoses


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
