"""Readers of the streaming data sets, on a small scene written in their layouts."""

import numpy as np
import pytest
import torch

from mmcity.datasets.io.info_pickle import InfoFileError
from mmcity.datasets.sequences import (
    TRAIN_LAYOUTS,
    ClipDataset,
    ClipSampling,
    EvalSequenceDataset,
    MixtureDataset,
    MixtureSampler,
    SequenceFileError,
    assemble_epoch,
    read_depth,
    sample_clip,
    sample_overlap_walk,
)
from mmcity.datasets.sequences.color_jitter import ClipColorJitter
from mmcity.datasets.sequences.sequence_dataset import list_sequences
from tests.datasets.sequence_writers import (
    CHAIN,
    EVAL_WRITERS,
    Scene,
    scene_cameras,
    write_kitti,
    write_training,
)

EVAL_ARGS = {
    "7scenes": {"stride": 2},
    "neural_rgbd": {"stride": 1},
    "co3d": {"min_images": 6, "num_frames": 4},
}


@pytest.mark.parametrize("layout", EVAL_WRITERS)
def test_evaluation_layouts(layout, tmp_path):
    scene = Scene()
    EVAL_WRITERS[layout](tmp_path, scene)
    args = EVAL_ARGS.get(layout, {})
    item = EvalSequenceDataset(layout, tmp_path, image_size=70, **args)[0]
    sample, images = item["data_samples"], item["inputs"]["images"]
    expected = {"7scenes": [0, 2, 4], "neural_rgbd": [0, 2, 3, 4, 5]}.get(layout)
    if layout == "co3d":
        chosen = sample.get("img_names")
        expected = [int(name.removeprefix("frame")) for name in chosen]
        assert len(set(expected)) == 4
    expected = expected or list(range(len(scene)))
    assert images.shape == (len(expected), 3, 42, 70)  # 48 x 64: 52.5 rounds, then down to 42
    if layout not in ("scannet", "tum", "co3d"):
        np.testing.assert_allclose(sample.gt_depths, scene.depths[expected], atol=4e-3)
    if layout not in ("kitti", "nyu_v2"):
        np.testing.assert_allclose(sample.trajectory.poses, scene.poses[expected], atol=1e-6)
    if layout == "sintel":
        np.testing.assert_allclose(sample.cameras.Ks[0], scene.K)


def test_unpaired_files_are_an_error(tmp_path):
    write_kitti(tmp_path, Scene())
    depths = tmp_path / "kitti/depth_selection/val_selection_cropped/groundtruth_depth_gathered"
    next(depths.rglob("0000000002.png")).unlink()
    with pytest.raises(SequenceFileError, match="0000000002.png"):
        list_sequences("kitti", tmp_path)


def test_missing_root_names_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="rgbd_bonn_dataset"):
        list_sequences("bonn", tmp_path)
    with pytest.raises(ValueError, match="layout: expected one of"):
        list_sequences("cityscapes", tmp_path)


def test_frames_as_items(tmp_path):
    write_kitti(tmp_path, Scene())
    data = EvalSequenceDataset("kitti", tmp_path, image_size=70, per_frame=True, max_frames=3)
    assert len(data) == 3
    assert data[2]["inputs"]["images"].shape[0] == 1
    assert data[2]["data_samples"].get("img_names") == ["0000000002"]


@pytest.mark.parametrize("layout", TRAIN_LAYOUTS)
def test_training_layouts(layout, tmp_path):
    scene = Scene()
    write_training(layout, tmp_path, scene)
    sequences = list_sequences(layout, tmp_path, "train")
    assert len(sequences) == (2 if layout in ("waymo", "megadepth") else 1)
    sequence = sequences[0]
    numbers = (1, 3, 5) if layout == "megadepth" else range(len(scene))
    assert len(sequence) == len(numbers)
    for index, frame in zip(numbers, sequence.frames):
        np.testing.assert_allclose(frame.K, scene.K)
        np.testing.assert_allclose(frame.cam_to_world, scene.poses[index])
        depth = read_depth(frame, sequence.depth_format)
        expected = scene.depths[index].copy()
        if layout == "vkitti":
            expected[expected == 0] = -1  # sky
        if layout == "mvs_synth":  # the farthest two percent are dropped
            assert (depth > 0).sum() < (expected > 0).sum()
            expected[depth == 0] = 0
        np.testing.assert_allclose(depth, expected, atol=6e-3)


class TestOverlap:
    """Image i overlaps with i + 1, and half as much with i + 2; see CHAIN."""

    def draws(self, layout, root, views, count=300, start=0):
        sequence = list_sequences(layout, root, "train")[0]
        assert sequence.can_fill(views)
        rng = np.random.default_rng(0)
        return [tuple(sequence.draw_clip(start, views, rng)) for _ in range(count)]

    def test_half_of_the_arkitscenes_clips_are_shuffled_groups(self, tmp_path):
        write_training("arkitscenes", tmp_path, Scene())
        clips = self.draws("arkitscenes", tmp_path, 3)
        # The group of frame 0 is 0, 1, 2; five of its six orders are not that of time, and
        # clips in the order of time seldom get the three frames in a wrong one.
        shuffled = sum(set(c) == {0, 1, 2} and c != (0, 1, 2) for c in clips) / len(clips)
        assert 0.35 < shuffled < 0.5
        # The group of the last frame holds no other: another group serves.
        assert {2, 3, 4} in [set(c) for c in self.draws("arkitscenes", tmp_path, 3, start=5)]

    def test_three_in_ten_scannetpp_clips_are_near_neighbours(self, tmp_path):
        write_training("scannetpp", tmp_path, Scene())
        sequence = list_sequences("scannetpp", tmp_path, "train")[0]
        assert sequence.overlap.share == 0.3
        rng = np.random.default_rng(0)
        clips = [sequence.overlap.draw(0, 1, rng) for _ in range(400)]
        taken = [c[0] for c in clips if c is not None]
        assert 80 < len(taken) < 160
        # Factors below 3 leave the image itself and its best neighbour, others the third too.
        shares = np.bincount(taken) / len(taken)
        np.testing.assert_allclose(shares, [5 / 12, 5 / 12, 1 / 6], atol=0.12)

    def test_scannetpp_videos_leave_the_photographs_out(self, tmp_path):
        write_training("scannetpp", tmp_path, Scene())
        folder = next(tmp_path.rglob("images"))
        for old in (*folder.iterdir(), *(folder.parent / "depth").iterdir()):
            number = int(old.stem.rsplit("_")[-1])
            kind = "DSC" if number < 2 else "frame_"
            old.rename(old.with_name(f"{kind}{number:05d}{old.suffix}"))
        path = folder.parent / "new_scene_metadata.npz"
        names = [f"{'DSC' if k < 2 else 'frame_'}{k:05d}.jpg" for k in range(6)]
        scene_cameras(path, Scene(), names, image_collection=CHAIN)
        sequence = list_sequences("scannetpp", tmp_path, "train")[0]
        assert sequence.video == [2, 3, 4, 5] and len(sequence) == 6
        rng = np.random.default_rng(0)
        clips = [sequence.draw_clip(0, 4, rng) for _ in range(30)]  # no group is that large
        assert all(sorted(c) == [2, 3, 4, 5] for c in clips)

    def test_blendedmvs_walks_along_strong_overlaps(self, tmp_path):
        write_training("blendedmvs", tmp_path, Scene())
        # Links to odd images score too little, which leaves 0 > 2, 1 > 2, 2 > 4 and 3 > 4.
        clips = self.draws("blendedmvs", tmp_path, 3, start=5)
        assert {tuple(c) for c in clips} == {(0, 2, 4), (1, 2, 4)}
        assert not list_sequences("blendedmvs", tmp_path, "train")[0].can_fill(4)

    def test_megadepth_sets(self, tmp_path):
        write_training("megadepth", tmp_path, Scene())
        first, second = list_sequences("megadepth", tmp_path, "train")
        assert [frame.image.stem[-1] for frame in second.frames] == ["0", "2", "4"]
        clips = self.draws("megadepth", tmp_path, 2, count=60)
        assert {tuple(sorted(c)) for c in clips} == {(0, 1), (0, 2), (1, 2)}
        assert (2, 0) in clips and len(first) == 3

    @pytest.mark.parametrize(
        ("layout", "file"),
        [
            ("arkitscenes", "new_scene_metadata.npz"),
            ("blendedmvs", "new_overlap.h5"),
            ("megadepth", "megadepth_sets_64.npz"),
        ],
    )
    def test_missing_file_is_named(self, layout, file, tmp_path):
        scene = Scene()
        write_training(layout, tmp_path, scene)
        path = next(tmp_path.rglob(file))
        if layout == "arkitscenes":  # cameras without groups
            names = [f"40753679_{i:03d}.jpg" for i in range(6)]
            scene_cameras(path, scene, names)
        else:
            path.unlink()
        with pytest.raises((FileNotFoundError, SequenceFileError), match=f"{file}.*use_overlap"):
            list_sequences(layout, tmp_path, "train")
        (sequence,) = list_sequences(layout, tmp_path, "train", use_overlap=False)
        assert sequence.overlap is None and len(sequence) == 6

    def test_groups_that_would_run_code_are_refused(self, tmp_path):
        scene = Scene()
        write_training("arkitscenes", tmp_path, scene)
        path = next(tmp_path.rglob("new_scene_metadata.npz"))
        names = [f"40753679_{i:03d}.jpg" for i in range(6)]
        scene_cameras(path, scene, names, image_collection=np.array(print, dtype=object))
        with pytest.raises(InfoFileError, match="builtins.print"):
            list_sequences("arkitscenes", tmp_path, "train")


def test_published_quotas():
    clips = {name: layout.clips for name, layout in TRAIN_LAYOUTS.items()}
    # ARKitScenes is listed once here with its two halves together.
    assert sum(clips.values()) == 39_000 and len(clips) == 15


def test_waymo_camera_rules(tmp_path):
    write_training("waymo", tmp_path, Scene())
    sequences = list_sequences("waymo", tmp_path, "train")
    assert {s.name: s.sampling.max_interval for s in sequences} == {
        "segment-1/1": 8,
        "segment-1/4": 4,
    }


class TestClips:
    @pytest.fixture
    def data(self, tmp_path):
        write_training("scannet", tmp_path, Scene(8))
        return ClipDataset(
            "scannet", tmp_path, num_views=4, resolutions=[(42, 28), (28, 28)], clips=10
        )

    def test_item(self, data):
        item = data[0, 0, 5]
        sample = item["data_samples"]
        assert item["inputs"]["images"].shape == (4, 3, 28, 42)
        assert sample.gt_depths.shape == (4, 28, 42)
        again = data[0, 0, 5]
        assert torch.equal(item["inputs"]["images"], again["inputs"]["images"])
        assert data[0, 1, 5]["inputs"]["images"].shape == (4, 3, 28, 28)

    def test_depth_cameras_and_crop_belong_together(self, data):
        """A pixel's ray still meets the depth that was written for it."""
        scene, sample = Scene(8), data[0, 0, 1]["data_samples"]
        for row, frame in enumerate(sample.get("frame_numbers")):
            pixels = sample.cameras.pixel_grid()[10:20, 10:30] - 0.5
            focal, centre = sample.cameras.Ks[row, [0, 1], [0, 1]], sample.cameras.Ks[row, :2, 2]
            rays = (pixels + 0.5 - centre) / focal
            column, line = (rays * 60 + torch.tensor([32.0, 24.0])).unbind(-1)
            written = scene.depths[frame][line.long().clamp(0, 47), column.long().clamp(0, 63)]
            close = np.abs(sample.gt_depths[row, 10:20, 10:30].numpy() - written) < 0.06
            assert close.mean() > 0.85  # nearest neighbours differ at the step

    def test_short_sequences_are_refused(self, tmp_path, data):
        with pytest.raises(ValueError, match="9 frames"):
            ClipDataset("scannet", tmp_path, num_views=9)

    def test_mixture(self, data):
        mixture = MixtureDataset([data, data], quotas=[6, 2])
        sampler = MixtureSampler(mixture, batch_size=2)
        order = list(sampler)
        assert len(order) == 8
        assert sorted(row[0] for row in order) == [0] * 6 + [1] * 2
        assert all(a[2] == b[2] for a, b in zip(order[::2], order[1::2]))  # one size per batch
        assert {row[2] for row in order} == {0, 1}
        assert mixture[order[0]]["inputs"]["images"].shape[0] == 4
        sampler.set_epoch(1)
        assert list(sampler) != order

    def test_colours_change_once_per_clip(self):
        jitter = ClipColorJitter()
        rng = np.random.default_rng(0)
        operations = jitter.draw(rng)
        assert sorted(name for name, _ in operations) == [
            "brightness",
            "contrast",
            "hue",
            "saturation",
        ]
        image = torch.rand(3, 4, 4)
        assert not torch.allclose(jitter.apply(image, operations), image)
        torch.testing.assert_close(jitter.apply(image, [("hue", 0.0), ("contrast", 1.0)]), image)
        red = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
        green = jitter.apply(red, [("hue", 1 / 3)]).flatten()
        torch.testing.assert_close(green, torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)


class TestSampling:
    def test_video_clips_are_sorted_and_spaced(self):
        rng = np.random.default_rng(0)
        for start in range(80):
            clip = sample_clip(100, start, 5, ClipSampling(4, 1.0, 1.0), rng)
            assert len(set(clip)) == 5 and clip == sorted(clip)
            if start < 50:
                assert clip[0] == start
                assert len(set(np.diff(clip))) == 1 and np.diff(clip)[0] <= 4

    def test_clips_near_the_end_are_filled_up(self):
        rng = np.random.default_rng(0)
        clip = sample_clip(12, 10, 6, ClipSampling(4, 1.0, 0.0), rng)
        assert len(set(clip)) == 6 and max(clip) < 12

    def test_block_shuffle_keeps_blocks_together(self):
        sampling = ClipSampling(1, 0.0, 0.0, shuffle_block=4)
        clip = sample_clip(100, 0, 12, sampling, np.random.default_rng(0))
        blocks = [sorted(clip[i : i + 4]) for i in (0, 4, 8)]
        assert clip != sorted(clip)
        assert sorted(blocks) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    def test_epoch(self):
        rows = assemble_epoch([3, 10], [7, 4], epoch=2)
        first = rows[rows[:, 0] == 0, 1]
        assert sorted(np.bincount(first).tolist()) == [2, 2, 3]  # extended cyclically
        assert len(set(rows[rows[:, 0] == 1, 1])) == 4
        assert not np.array_equal(rows, assemble_epoch([3, 10], [7, 4], epoch=3))

    def test_overlap_walk(self):
        overlap = np.zeros((6, 6))
        for a, b in ((0, 1), (1, 2), (2, 3), (4, 5)):
            overlap[a, b] = overlap[b, a] = 0.6
        rng = np.random.default_rng(0)
        for _ in range(10):
            walk = sample_overlap_walk(overlap, 4, rng)
            assert sorted(walk) == [0, 1, 2, 3]
        assert sample_overlap_walk(overlap, 5, rng) is None
