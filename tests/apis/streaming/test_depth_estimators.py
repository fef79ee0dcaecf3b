"""Three sources of depth priors behind one interface."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.apis import StreamingReconstructor
from mmcity.apis.streaming.depth_estimators import (
    DepthAnythingEstimator,
    StreamingDepthEstimator,
    ToytownDepthEstimator,
)
from mmcity.utils.cli import UserError
from tests.devices import DEVICE
from tests.models.streamvggt.tiny import SIZES, tiny_model


@pytest.fixture
def photographs(tmp_path):
    """A folder of three pictures of 60x40."""
    folder = tmp_path / "rgbs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        values = np.kron(rng.integers(20, 230, (5, 6, 3)), np.ones((8, 10, 1)))
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{number:06d}.png")
    return folder


def levels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(float)


class FakeProcessor:
    """Takes every second pixel, as a processor makes pictures smaller."""

    @classmethod
    def from_pretrained(cls, folder, local_files_only):
        assert local_files_only  # nothing may be downloaded
        cls.folder = folder
        return cls()

    def __call__(self, images, return_tensors):
        assert return_tensors == "pt" and images.dtype == np.uint8
        pixels = torch.from_numpy(images[::2, ::2].copy()).permute(2, 0, 1)[None].float()

        class Batch(dict):
            def to(self, device):
                return Batch({key: value.to(device) for key, value in self.items()})

        return Batch(pixel_values=pixels)


class FakeDepthModel(torch.nn.Module):
    """Finds what is brighter nearer."""

    @classmethod
    def from_pretrained(cls, folder, local_files_only):
        assert local_files_only
        return cls()

    def forward(self, pixel_values):
        assert not self.training and not torch.is_grad_enabled()
        return SimpleNamespace(predicted_depth=pixel_values.mean(1))


def test_depth_anything_runs_through_transformers(photographs, tmp_path, monkeypatch):
    module = SimpleNamespace(
        AutoImageProcessor=FakeProcessor, AutoModelForDepthEstimation=FakeDepthModel
    )
    monkeypatch.setitem(sys.modules, "transformers", module)
    (tmp_path / "weights").mkdir()
    estimator = DepthAnythingEstimator(tmp_path / "weights")
    assert FakeProcessor.folder == tmp_path / "weights"
    told = []
    written = estimator.write(photographs, tmp_path / "depths", lambda *at: told.append(at))
    assert [path.name for path in written] == ["000000.png", "000001.png", "000002.png"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    for path in written:
        levels = levels_of(path)
        grey = levels_of(photographs / path.name).mean(-1)
        assert levels.shape == (40, 60) and (levels.min(), levels.max()) == (0, 65535)
        # Middles of the 10x8 blocks, which enlarging does not mix with their neighbours.
        inner, truth = levels[4::8, 5::10], grey[4::8, 5::10]
        assert np.corrcoef(inner.ravel(), truth.ravel())[0, 1] > 0.99
    # What is there stays; what is missing is made.
    written[1].unlink()
    assert estimator.write(photographs, tmp_path / "depths") == [written[1]]


def test_depth_anything_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="expected the folder"):
        DepthAnythingEstimator(tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install transformers"):
        DepthAnythingEstimator(tmp_path)


def test_the_toy_towns_priors_are_its_depths_of_unknown_scale(photographs, tmp_path):
    with pytest.raises(UserError, match="true depths"):
        ToytownDepthEstimator(tmp_path)
    depths = tmp_path / "gt" / "depths"
    depths.mkdir(parents=True)
    x, y = np.meshgrid(np.arange(60), np.arange(40))
    for number in range(3):
        np.save(depths / f"{number:06d}.npy", (20.0 + x + (number + 1) * y).astype(np.float32))
    first = ToytownDepthEstimator(tmp_path).write(photographs, tmp_path / "one")
    # Any order, any start: a picture's disturbance is its own.
    again = ToytownDepthEstimator(tmp_path)
    for number in (2, 0, 1):
        image = np.zeros((40, 60, 3), np.uint8)
        inverse = again.estimate(image, photographs / f"{number:06d}.png")
        levels = levels_of(first[number])
        scaled = (inverse - inverse.min()) / (inverse.max() - inverse.min()) * 65535
        np.testing.assert_allclose(levels, scaled, atol=0.51)
        truth = 1 / np.load(depths / f"{number:06d}.npy")
        assert np.corrcoef(levels.ravel(), truth.ravel())[0, 1] > 0.98
    other = ToytownDepthEstimator(tmp_path, seed=1).write(photographs, tmp_path / "two")
    assert np.abs(levels_of(first[0]) - levels_of(other[0])).max() > 0
    # Depths of another seed are not taken for done, those of a changed picture neither.
    with pytest.raises(UserError, match=r"two: expected outputs of seed 0 \(not 1\)"):
        ToytownDepthEstimator(tmp_path).write(photographs, tmp_path / "two")
    os.utime(photographs / "000001.png", ns=(1, 1))
    made = ToytownDepthEstimator(tmp_path, seed=1).write(photographs, tmp_path / "two")
    assert made == [other[1]]


def test_the_streaming_model_is_a_source_as_well(photographs, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(f"model = dict(type='StreamVGGT', **{SIZES!r})\nstream = dict(image_size=42)")
    model = tiny_model()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "weights.pth")
    estimator = StreamingDepthEstimator(config, tmp_path / "weights.pth")
    told = []
    written = estimator.write(photographs, tmp_path / "depths", lambda *at: told.append(at))
    assert [path.name for path in written] == ["000000.png", "000001.png", "000002.png"]
    assert told[-1] == (3, 3)
    run = StreamingReconstructor(model, device=DEVICE, image_size=42, resize="eval")
    for path, result in zip(written, run(photographs)):
        levels = levels_of(path)
        assert levels.shape == (40, 60)
        height, width = result.depth.shape
        rows = ((np.arange(height) + 0.5) * 40 / height).astype(int)
        columns = ((np.arange(width) + 0.5) * 60 / width).astype(int)
        small = levels[rows][:, columns]
        assert np.corrcoef(small.ravel(), (1 / result.depth).ravel())[0, 1] > 0.95
