"""Adapters of learned matchers, with stand-ins for the packages that a user brings."""

import sys
import types

import numpy as np
import pytest
import torch

from mmcity.models.rap.refinement import RenderMatchRefiner
from mmcity.models.rap.refinement.learned_matchers import (
    LightGlueMatcher,
    MASt3RMatcher,
    RoMaMatcher,
    fit_to_patches,
    reciprocal_matches,
)
from mmcity.registry import TASK_UTILS
from tests.devices import DEVICE

from .textured_room import render_room, room_camera

MATCHERS = {
    "LightGlueMatcher": "transformers",
    "RoMaMatcher": "romatch",
    "MASt3RMatcher": "mast3r",
}


@pytest.mark.parametrize("name", MATCHERS)
def test_missing_package_says_what_to_do(name, monkeypatch):
    for module in ("transformers", "romatch", "mast3r", "mast3r.model"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"{name}: expected {MATCHERS[name]}.*SIFT"):
        TASK_UTILS.build(dict(type=name, weights="somewhere"))


def stand_in(monkeypatch, name, **content):
    module = types.ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_missing_weights_are_named(monkeypatch, tmp_path):
    stand_in(monkeypatch, "romatch")
    stand_in(monkeypatch, "transformers")
    with pytest.raises(ValueError, match="LightGlueMatcher: weights.*got none"):
        LightGlueMatcher()
    with pytest.raises(FileNotFoundError, match="no .*nothing.pth"):
        RoMaMatcher(weights=tmp_path / "nothing.pth")


def test_lightglue_pixels_get_their_half(monkeypatch, tmp_path):
    class Processor:
        @classmethod
        def from_pretrained(cls, folder, local_files_only):
            assert local_files_only
            return cls()

        def __call__(self, images, return_tensors):
            (pair,) = images
            assert [p.shape for p in pair] == [(120, 160, 3), (60, 80, 3)]
            assert pair[0].dtype == np.uint8
            return types.SimpleNamespace(to=lambda device: {"pixel_values": pair})

        def post_process_keypoint_matching(self, outputs, sizes, threshold):
            assert sizes == [[(120, 160), (60, 80)]]
            return [
                {
                    "keypoints0": torch.tensor([[3, 4]]),
                    "keypoints1": torch.tensor([[1, 2]]),
                    "matching_scores": torch.tensor([0.7]),
                }
            ]

    class Model(torch.nn.Module):
        @classmethod
        def from_pretrained(cls, folder, local_files_only):
            return cls()

        def forward(self, pixel_values):
            return None

    stand_in(
        monkeypatch,
        "transformers",
        AutoImageProcessor=Processor,
        AutoModelForKeypointMatching=Model,
    )
    matches = LightGlueMatcher(weights=tmp_path)(torch.zeros(3, 120, 160), torch.zeros(3, 60, 80))
    np.testing.assert_allclose(matches.query, [[3.5, 4.5]])
    np.testing.assert_allclose(matches.reference, [[1.5, 2.5]])
    np.testing.assert_allclose(matches.confidence, [0.7], rtol=1e-6)


def test_roma_coordinates_end_at_the_edges(monkeypatch, tmp_path):
    class Model:
        def match(self, first, second, device):
            assert first.size == (160, 120) and second.size == (80, 60)
            return "warp", "certainty"

        def sample(self, warp, certainty, num):
            assert num == 3
            corners = torch.tensor([[-1.0, -1, -1, -1], [1, 1, 1, 1], [0, 0, 0.5, 0]])
            return corners, torch.tensor([0.1, 0.2, 0.3])

    loaded = []
    stand_in(
        monkeypatch,
        "romatch",
        roma_outdoor=lambda device, weights, dinov2_weights: (
            loaded.append((weights, dinov2_weights)) or Model()
        ),
    )
    for name in ("a.pth", "b.pth"):
        torch.save({name: torch.ones(1)}, tmp_path / name)
    files = dict(weights=tmp_path / "a.pth", dinov2_weights=tmp_path / "b.pth")
    matcher = RoMaMatcher(**files, max_matches=3, device=DEVICE)
    matches = matcher(torch.zeros(3, 120, 160), torch.zeros(3, 60, 80))
    np.testing.assert_allclose(matches.query, [[0, 0], [160, 120], [80, 60]])
    np.testing.assert_allclose(matches.reference, [[0, 0], [80, 60], [60, 30]])
    assert [list(d) for d in loaded[0]] == [["a.pth"], ["b.pth"]]


@pytest.mark.parametrize("size", [(479, 643), (300, 300), (120, 160), (200, 900)])
def test_resize_and_crop_are_undone_exactly(size):
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.stack([x / width, y / height, torch.zeros_like(x)])
    picture, back = fit_to_patches(image, 512)
    h, w = picture.shape[-2:]
    assert h % 16 == 0 and w % 16 == 0 and max(h, w) <= 512 and h != w
    pixels = np.array([[w / 2 + 0.5, h / 2 + 0.5], [w / 3 // 1 + 0.5, h / 4 // 1 + 0.5]])
    shown = picture[:2, pixels[:, 1].astype(int), pixels[:, 0].astype(int)].T.double()
    np.testing.assert_allclose(back(pixels), shown * torch.tensor([width, height]), atol=0.6)


def test_reciprocal_matches_of_a_shifted_picture():
    rng = torch.Generator().manual_seed(0)
    field = torch.nn.functional.normalize(torch.randn(40, 64, 16, generator=rng), dim=-1)
    first, second = field[:, :48], field[:, 10:58]  # pixel x of the first is x - 10 of the second
    one, two = reciprocal_matches(first, second, grid=4)
    right = two[:, 0] == one[:, 0] - 10
    assert right.mean() > 0.9 and (two[right][:, 1] == one[right][:, 1]).all()
    assert len(np.unique(one, axis=0)) == len(one)


def test_mast3r_drives_the_refiner(monkeypatch, tmp_path):
    """A stand-in whose descriptors are the colours of a textured room localises in it."""

    class Model(torch.nn.Module):
        @classmethod
        def from_pretrained(cls, path):
            return cls()

        def forward(self, first, second):
            def describe(view):
                image = view["img"][0]
                assert image.min() >= -1 and image.max() <= 1
                patches = torch.nn.functional.unfold(image[None], 9, padding=4)[0].T
                patches = patches - patches.mean(1, keepdim=True)
                patches = torch.nn.functional.normalize(patches, dim=1)
                return patches.reshape(*image.shape[1:], -1)

            return {"desc": describe(first)[None]}, {"desc": describe(second)[None]}

    stand_in(monkeypatch, "mast3r")
    stand_in(monkeypatch, "mast3r.model", AsymmetricMASt3R=Model)
    matcher = MASt3RMatcher(weights=tmp_path, long_side=160, device=DEVICE, grid=6)
    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    start = room_camera((0.23, 0.1, -0.22), (1.62, 0.12, 2.0))
    result = RenderMatchRefiner(render_room, matcher, max_iterations=1)(
        render_room(truth)["rgb"], start
    )
    assert result.status == "ok"
    assert float((result.camera.centers - truth.centers).norm()) < 0.02
