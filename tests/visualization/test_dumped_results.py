"""Contact sheets of dumped renders."""

from pathlib import Path

import numpy as np
import pytest

from mmcity.datasets.transforms.posed_images import read_image
from mmcity.utils.cli import UserError
from mmcity.visualization import (
    colorize_depth,
    colorize_error,
    colorize_normals,
    contact_sheet,
    draw_results,
)
from mmcity.visualization.video import pictures_beside


def dump(path, rng, **more):
    shape = (3, 12, 16)
    values = dict(
        pred_image=rng.random(shape),
        pred_alpha=np.ones(shape[1:]),
        pred_depth=rng.uniform(1, 9, shape[1:]),
        **{name: rng.random(shape) for name in more.pop("pictures", ())},
        **more,
    )
    np.savez(path, **values)
    return values


def test_rows_are_spread_over_sheets(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        dump(tmp_path / f"{name}.npz", rng)
    last = dump(
        tmp_path / "c.npz", rng, pictures=("gt_image", "pred_normal"), **{"metrics.psnr": 21.456}
    )
    sheets = draw_results(tmp_path, tmp_path / "out", max_rows=2)
    assert [sheet.name for sheet in sheets] == ["contact_sheet_00.png", "contact_sheet_01.png"]
    row = [
        last["gt_image"],
        last["pred_image"],
        colorize_error(last["pred_image"], last["gt_image"]),
        colorize_depth(last["pred_depth"]),
        colorize_normals(last["pred_normal"]),
    ]
    titles = ["photograph", "render", "error", "depth", "normals"]
    expected = contact_sheet([row], titles, ["c  psnr 21.46"])
    np.testing.assert_array_equal(read_image(sheets[1]), expected)


def test_pictures_lie_beside_what_they_show(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "scene.ply").touch()
    assert pictures_beside(tmp_path / "results") == tmp_path / "results" / "pictures"
    assert pictures_beside(tmp_path / "scene.ply") == tmp_path / "scene_pictures"
    assert pictures_beside("https://example.org/town.pth") == Path("town_pictures")


def test_what_holds_no_picture_is_named(tmp_path):
    with pytest.raises(UserError, match="write them with --dump"):
        draw_results(tmp_path)
    np.savez(tmp_path / "a.npz", pred_pose=np.eye(4))
    with pytest.raises(UserError, match=r"a.npz: expected 'pred_image', got \['pred_pose'\]"):
        draw_results(tmp_path)
