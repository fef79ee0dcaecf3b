"""``mmcity data``: its options say what the functions take."""

import inspect

import pytest

from mmcity.cli.main import build_parser
from mmcity.datasets import alignment, converters, depth_filter, depth_scale
from mmcity.datasets.converters import cambridge_landmarks, images_to_colmap, reduce_colmap
from mmcity.toytown.world.config import LIGHTINGS, SIZES
from mmcity.toytown.writers import WRITERS


def options_of(verb: str) -> dict:
    """Options and arguments of a verb, by the name of what they set."""
    actions = build_parser("verbs.data", verb, verb)._actions
    return {action.dest: action for action in actions if action.dest != "help"}


@pytest.mark.parametrize(
    ("verb", "function"),
    [
        ("align-scene", alignment.align_scene),
        ("cambridge-landmarks", converters.convert_cambridge_landmarks),
        ("filter-depth", depth_filter.filter_depth),
        ("fit-depth-scale", depth_scale.fit_scene_depths),
        ("images-to-colmap", converters.map_pictures),
        ("nuscenes", converters.convert_nuscenes),
        ("reduce-colmap", converters.reduce_scene),
        ("seven-scenes-sfm", converters.convert_seven_scenes),
    ],
)
def test_options_and_their_defaults_are_those_of_the_function(verb, function):
    taken = inspect.signature(function).parameters
    defaults = {
        name: None if value.default is inspect.Parameter.empty else value.default
        for name, value in taken.items()
    }
    assert {name: action.default for name, action in options_of(verb).items()} == defaults


@pytest.mark.parametrize(
    ("verb", "option", "known"),
    [
        ("toytown", "formats", WRITERS),
        ("toytown", "size", SIZES),
        ("toytown", "lighting", LIGHTINGS),
        ("images-to-colmap", "matching", images_to_colmap.MATCHING),
        ("reduce-colmap", "features", reduce_colmap.FEATURES),
        ("cambridge-landmarks", "layout", cambridge_landmarks.LAYOUTS),
        ("fit-depth-scale", "method", depth_scale.FIT_METHODS),
    ],
)
def test_choices_are_those_of_the_package(verb, option, known):
    assert tuple(options_of(verb)[option].choices) == tuple(known)
