"""What all conversions of published checkpoints share; each system has tests of its own."""

import inspect
from pathlib import Path

import pytest

from mmcity.apis import ConversionReport, convert_checkpoint
from mmcity.cli.main import build_parser


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("nerf", {}, r"system: expected one of 'citygsx', .*, got 'nerf'"),
        ("gausstr", {}, "config: expected the config of the gausstr model, got none"),
        ("citygsx", {"config": "x.py"}, r"config: expected none for citygsx, got x\.py"),
        ("rap", {"iteration": 3}, "iteration: expected none for rap, got 3"),
    ],
)
def test_options_that_a_system_does_not_take_are_refused(system, options, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(system, "src", "dst", **options)


def test_report_tells_what_came_of_the_entries():
    names = [f"buffer{k}" for k in range(8)]
    report = ConversionReport(Path("a.pth"), ["x", "y"], names, ["odd"], ["a note"])
    assert str(report).splitlines() == [
        "wrote a.pth: 2 entries",
        "8 not in the source, so as the config makes them: buffer0, buffer1, buffer2, buffer3, "
        "buffer4, buffer5, ...",
        "1 of the source without a place there: odd",
        "a note",
    ]


def test_command_has_the_options_of_the_function():
    actions = build_parser("verbs", "convert-checkpoint", "x")._actions
    names = {action.dest for action in actions} - {"help", "unsafe_load"}
    assert names == set(inspect.signature(convert_checkpoint).parameters)
    systems = next(action for action in actions if action.dest == "system").choices
    with pytest.raises(ValueError, match=f"expected one of {', '.join(map(repr, systems))}, got"):
        convert_checkpoint("nerf", "src", "dst")
