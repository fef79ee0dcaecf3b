"""Videos of the toy town in the layouts of the training sets, read back."""

import numpy as np
import pytest
import torch

from mmcity.datasets.sequences import TRAIN_LAYOUTS, ClipDataset, MixtureDataset, MixtureSampler
from mmcity.datasets.sequences.frames import read_depth
from mmcity.datasets.sequences.sequence_dataset import list_sequences
from mmcity.registry import DATASETS
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_video
from mmcity.toytown.writers.training_layouts import (
    TRAINING_LAYOUTS,
    write_training_layout,
)
from mmcity.utils import register_all_modules

#: Largest rounding of depths below the value given, metres.
STEPS = {"co3d": 1e-3, "vkitti": 5.1e-3}
#: Depths that the numbers of a layout cannot hold are unknown.
RANGES = {"co3d": 120.0, "vkitti": 655.0, "mvs_synth": 1000.0, "point_odyssey": 1000.0}
IN_MILLIMETRES = ("wildrgbd", "arkitscenes", "arkitscenes_highres", "scannetpp", "scannet")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    config = ToytownConfig(seed=3, blocks=(1, 2), traffic=0.2, supersampling=1)
    folder = tmp_path_factory.mktemp("video") / "videos"
    return write_video(folder, config, image_size=(64, 48), num_sequences=2, num_frames=5)


@pytest.fixture(scope="module")
def truth(videos):
    return list_sequences("toytown", videos)


def test_every_layout_has_a_writer():
    assert TRAINING_LAYOUTS.keys() == TRAIN_LAYOUTS.keys() and len(TRAINING_LAYOUTS) == 15


@pytest.mark.parametrize("layout", TRAIN_LAYOUTS)
def test_layout_reads_back(layout, videos, truth, tmp_path):
    write_training_layout(layout, tmp_path, videos)
    sequences = list_sequences(layout, tmp_path, "train")
    assert len(sequences) == len(truth) == 2
    for sequence, true in zip(sequences, truth):
        assert len(sequence) == len(true) == 5
        for frame, expected in zip(sequence.frames, true.frames):
            np.testing.assert_allclose(frame.K, expected.K)
            np.testing.assert_allclose(frame.cam_to_world, expected.cam_to_world)
            depth = read_depth(frame, sequence.depth_format)
            exact = read_depth(expected, true.depth_format)
            limit = 65.5 if layout in IN_MILLIMETRES else RANGES.get(layout, np.inf)
            if layout == "mvs_synth":
                limit = np.percentile(exact[(exact > 0) & (exact <= limit)], 98)
            inside = (exact > 0) & (exact < 0.999 * limit)
            assert inside.mean() > 0.3
            np.testing.assert_allclose(
                depth[inside], exact[inside], atol=STEPS.get(layout, 6e-4), rtol=1e-6
            )
            assert (depth[exact > (1.001 * limit)] <= 0).all()
            sky = exact == 0
            assert (depth[sky] == (-1 if layout == "vkitti" else 0)).all()


def test_one_epoch_over_all_layouts(videos, tmp_path):
    """The mixture of the published recipe in small: all sets, several image sizes."""
    register_all_modules()
    resolutions = [(42, 28), (28, 28), (28, 42)]
    parts = []
    for layout in TRAIN_LAYOUTS:
        write_training_layout(layout, tmp_path, videos)
        parts.append(
            dict(
                type="ClipDataset", layout=layout, data_root=str(tmp_path), num_views=3,
                resolutions=resolutions, clips=2, mirror_probability=0.5,
            )
        )  # fmt: skip
    mixture = DATASETS.build(dict(type="MixtureDataset", datasets=parts))
    assert isinstance(mixture, MixtureDataset) and isinstance(mixture.datasets[0], ClipDataset)
    sampler = MixtureSampler(mixture, batch_size=2, probabilities=[2, 1, 1])
    order = list(sampler)
    assert len(order) == 30 and {row[0] for row in order} == set(range(15))
    for first, second in zip(order[::2], order[1::2]):
        shapes = [mixture[row]["inputs"]["images"].shape for row in (first, second)]
        assert shapes[0] == shapes[1]
        assert tuple(shapes[0][-2:]) == tuple(reversed(resolutions[first[2]]))


def test_mirrored_clips_keep_pixels_depths_and_cameras_together(videos):
    """World points of a mirrored clip are those of the clip with x and -x exchanged."""
    args = dict(layout="toytown", data_root=str(videos), num_views=2, resolutions=[(56, 42)],
                crop_jitter=0, color_jitter=False)  # fmt: skip
    plain, mirrored = ClipDataset(**args), ClipDataset(**args, mirror_probability=1.0)
    one, other = plain[(0, 0, 0)], mirrored[(0, 0, 0)]
    torch.testing.assert_close(other["inputs"]["images"].flip(-1), one["inputs"]["images"])
    points = []
    for item in (one, other):
        cameras, depth = item["data_samples"].cameras, item["data_samples"].gt_depths
        pixels = cameras.pixel_grid()  # (H, W, 2)
        rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
        local = torch.einsum("sij,hwj->shwi", cameras.Ks.inverse(), rays.float()) * depth[..., None]
        pose = cameras.viewmats.inverse()
        points.append(
            torch.einsum("sij,shwj->shwi", pose[:, :3, :3], local) + pose[:, None, None, :3, 3]
        )
    expected = points[0].flip(2) * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(points[1], expected, atol=1e-2, rtol=1e-4)


def test_unknown_layout_is_named(videos, tmp_path):
    with pytest.raises(ValueError, match="nuscenes"):
        write_training_layout("nuscenes", tmp_path, videos)
    with pytest.raises(FileNotFoundError, match="expected videos"):
        write_training_layout("waymo", tmp_path, tmp_path)
