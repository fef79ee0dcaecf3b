"""Clips in files: batches, conditions that take turns, inpainting, going on."""

import json

import numpy as np
import pytest
import torch

from mmcity.apis.occupancy.generate_clips import generate_clips
from mmcity.registry import MODELS
from mmcity.utils.cli import UserError
from tests.devices import DEVICE
from tests.models.dynamiccity.test_sampling import build_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Config and checkpoint of a small generator."""
    folder = tmp_path_factory.mktemp("generator")
    cfg = build_model()
    network = MODELS.build(cfg)
    for name, parameter in network.denoiser.named_parameters():
        if "pos_embed" not in name:
            torch.nn.init.normal_(parameter, std=0.05)
    (folder / "config.py").write_text(f"default_scope = 'mmcity'\nmodel = {cfg!r}\n")
    torch.save({"state_dict": network.state_dict(), "meta": {}}, folder / "weights.pth")
    return folder / "config.py", folder / "weights.pth"


def voxels_of(path):
    with np.load(path) as data:
        return data["voxels"], json.loads(str(data["meta"]))


def test_a_run_that_lost_a_clip_makes_it_again(model, tmp_path):
    options = {"num_samples": 3, "seed": 3, "device": "cpu", "command": 1, "raw": True}
    paths = generate_clips(*model, tmp_path, **options)
    assert [path.name for path in paths] == ["00000.npz", "00001.npz", "00002.npz"]
    before = {path: path.read_bytes() for path in paths}
    voxels, meta = voxels_of(paths[1])
    assert meta == {"seed": 4, "index": 1, "command": 1}
    raw = np.fromfile(tmp_path / "00001" / "000002.npy", dtype=np.uint8)
    np.testing.assert_array_equal(raw.reshape(voxels.shape[1:]), voxels[2])
    paths[1].unlink()
    paths[0].write_bytes(b"kept")
    generate_clips(*model, tmp_path, **options)
    assert paths[1].read_bytes() == before[paths[1]]
    assert paths[0].read_bytes() == b"kept"
    # Clips of other options are not taken for done.
    with pytest.raises(UserError, match=r"expected outputs of seed 4 \(not 3\), got others"):
        generate_clips(*model, tmp_path, **{**options, "seed": 4})


def test_conditions_take_turns(model, tmp_path):
    layouts = []
    for number in range(2):
        layouts.append(tmp_path / f"layout{number}.npz")
        np.savez(layouts[-1], layout=np.full((4, 4, 4), number, np.uint8))
    poses = np.zeros((2, 4, 3), np.float32)
    poses[1, :, 0] = np.arange(4)
    np.save(tmp_path / "poses.npy", poses)
    options = {"device": "cpu", "seed": 5, "sampler": "ddim", "steps": 2}
    both = generate_clips(
        *model, tmp_path / "both", num_samples=2, batch_size=2, command=-1, layouts=layouts,
        trajectory=tmp_path / "poses.npy", **options,
    )  # fmt: skip
    np.save(tmp_path / "first.npy", poses[0])
    alike = generate_clips(
        *model, tmp_path / "alike", num_samples=2, batch_size=2, command=0, layouts=layouts[:1],
        trajectory=tmp_path / "first.npy", **options,
    )  # fmt: skip
    np.testing.assert_array_equal(voxels_of(both[0])[0], voxels_of(alike[0])[0])
    assert not np.array_equal(voxels_of(both[1])[0], voxels_of(alike[1])[0])


def test_inpainting_changes_the_box_alone(model, tmp_path):
    clip = np.random.default_rng(0).integers(0, 12, (4, 16, 16, 8), dtype=np.uint8)
    np.savez(tmp_path / "known.npz", voxels=clip)
    (path,) = generate_clips(
        *model, tmp_path, num_samples=1, inpaint=tmp_path / "known.npz", region=(2, 4, 10, 8),
        frames=(1, 4), repaint=(1, 2), device=DEVICE,
    )  # fmt: skip
    changed = np.argwhere(voxels_of(path)[0] != clip)
    assert changed[:, :3].min(0).tolist() == [1, 2, 4]
    assert changed[:, :3].max(0).tolist() == [3, 9, 7]


def test_films_and_pages_of_long_clips(model, tmp_path):
    options = {"num_samples": 1, "num_windows": 2, "overlap": 2, "device": "cpu", "show": True}
    (path,) = generate_clips(*model, tmp_path, **options)
    assert len(voxels_of(path)[0]) == 4 + 2
    for suffix in (".html", ".mp4", ".gif"):
        assert path.with_suffix(suffix).stat().st_size > 0


def test_arguments_that_go_together_are_asked_for(model, tmp_path):
    np.savez(tmp_path / "other.npz", labels=np.zeros(1))
    for options, message in (
        ({"region": (0, 0, 1, 1)}, "region and inpaint together, got region alone"),
        ({"steps": 4}, "sampler and steps together, got steps alone"),
        (
            {"inpaint": tmp_path / "other.npz", "region": (0, 0, 1, 1)},
            r"other.npz: expected an array 'voxels', got \['labels'\]",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            generate_clips(*model, tmp_path, device=DEVICE, **options)
