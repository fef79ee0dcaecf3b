"""Generation metrics on clips whose answer is known."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmcity.evaluation.feature_extractors import (
    OccNetFeatures,
    RandomImageFeatures,
    RandomVoxelFeatures,
    ScriptedImageFeatures,
    weights_checksum,
)
from mmcity.evaluation.metrics import (
    ConditionFidelity,
    OccGenMetric2D,
    OccGenMetric3D,
    TemporalConsistency,
)
from mmcity.evaluation.metrics.occ_generation import noise_clip, shuffle_columns
from mmcity.registry import DATASETS
from tests.evaluation.test_scene_motion import VEHICLE, EgoMotion, _drive, _world

FRAMES = 4


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmcity")


def _clips(count: int, first: int = 0) -> list[torch.Tensor]:
    """Drives through worlds of their own."""
    motion = EgoMotion(np.array([2.0, 0.0, 0.0]), 1.0)
    return [torch.from_numpy(_drive(_world(first + s), motion, FRAMES, 32)) for s in range(count)]


@DATASETS.register_module(name="TestOtherDrives")
class _OtherDrives(list):
    def __init__(self) -> None:
        super().__init__({"inputs": {"voxels": clip}} for clip in _clips(8, first=100))


def _run(metric, real: list, fake: list, inputs: dict | None = None) -> dict:
    samples = [{"gt_occupancy": r, "pred_occupancy": f} for r, f in zip(real, fake)]
    metric.process({"inputs": inputs or {}}, samples)
    return metric.compute_metrics(metric.results)


VOXELS = dict(type="RandomVoxelFeatures", dim=16)
REFERENCE = dict(type="TestOtherDrives")


def test_other_drives_lie_nearer_than_shuffled_ones_and_noise():
    numbers = _run(OccGenMetric3D(VOXELS, reference=REFERENCE), _clips(8), _clips(8, first=50))
    name = f"FID3D@{8 * FRAMES}"
    assert numbers[name] < 0.8 * numbers[f"shuffled/{name}"] < 0.8 * numbers[f"noise/{name}"]
    # Generated and reference clips are of one kind here, so their numbers are alike.
    assert numbers[name] == pytest.approx(numbers[f"real/{name}"], rel=0.7)
    assert numbers[f"precision3D@{8 * FRAMES}"] > numbers[f"noise/precision3D@{8 * FRAMES}"]
    assert numbers["FVD@8"] < numbers["noise/FVD@8"]


def test_a_set_against_itself_has_distance_zero():
    clips = _clips(6)
    numbers = _run(OccGenMetric3D(VOXELS, baselines=()), clips, clips)
    assert numbers[f"FID3D@{6 * FRAMES}"] == pytest.approx(0.0, abs=1e-4)
    assert numbers[f"recall3D@{6 * FRAMES}"] == 1.0


def test_views_are_averaged_and_the_number_is_in_the_name():
    metric = OccGenMetric2D(dict(type="RandomImageFeatures", dim=16), baselines=(), num=12, scale=2)
    numbers = _run(metric, _clips(4), _clips(4, first=50))
    views = [numbers[f"{view}/FID2D@12"] for view in ("birds_eye", "oblique")]
    assert numbers["FID2D@12"] == pytest.approx(np.mean(views))


def test_another_network_may_tell_precision_and_recall():
    clips = _clips(4), _clips(4, first=50)
    one, other = (dict(type="RandomImageFeatures", dim=16, seed=seed) for seed in (1, 2))
    both = _run(OccGenMetric2D(one, pr_extractor=other, baselines=(), scale=2), *clips)
    alone = [_run(OccGenMetric2D(kind, baselines=(), scale=2), *clips) for kind in (one, other)]
    for name, value in both.items():
        assert value == alone["precision" in name or "recall" in name][name]


def test_shuffling_keeps_columns_and_noise_keeps_class_shares():
    clip = _clips(1)[0]
    generator = torch.Generator().manual_seed(0)
    shuffled, noise = shuffle_columns(clip, generator), noise_clip(clip, generator)
    columns = [sorted(map(tuple, c.reshape(-1, 4).tolist())) for c in (clip[0], shuffled[0])]
    assert columns[0] == columns[1] and not torch.equal(clip, shuffled)
    for other in (shuffled, noise):
        assert torch.equal(torch.bincount(clip[1].flatten()), torch.bincount(other[1].flatten()))


def test_extractors_have_a_checksum_of_their_weights(tmp_path):
    assert RandomVoxelFeatures(seed=1).checksum == RandomVoxelFeatures(seed=1).checksum
    assert RandomVoxelFeatures(seed=1).checksum != RandomVoxelFeatures(seed=2).checksum
    model = dict(type="OccFeatureNet", channels=(8, 8, 16))
    with pytest.raises(FileNotFoundError, match="train it"):
        OccNetFeatures(model, str(tmp_path / "none.pth"))
    from mmcity.registry import MODELS

    network = MODELS.build(model)
    path = tmp_path / "net.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    extractor = OccNetFeatures(model, str(path), sha256=weights_checksum(network))
    features, logits = extractor(_clips(1)[0])
    assert features.shape == (FRAMES, 16) and logits.shape == (FRAMES, 12)
    with pytest.raises(ValueError, match="checksum"):
        OccNetFeatures(model, str(path), sha256="0" * 16)
    with pytest.raises(ValueError, match="expected weights of the config"):
        OccNetFeatures({**model, "channels": (8, 8, 8)}, str(path))


def test_scripted_networks_serve_as_extractors(tmp_path):
    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            mean = x.mean(dim=(2, 3))
            return mean if return_features else mean.sum(1, keepdim=True)

    path = tmp_path / "net.pt"
    torch.jit.script(Network()).save(str(path))
    extractor = ScriptedImageFeatures(str(path), logit_options={}, size=8)
    images = torch.full((2, 16, 16, 3), 51, dtype=torch.uint8)
    features, logits = extractor(images)
    torch.testing.assert_close(features, torch.full((2, 3), 51.0))
    torch.testing.assert_close(logits, torch.full((2, 1), 153.0))
    assert RandomImageFeatures(dim=8)(images)[0].shape == (2, 8)


def test_fidelity_tells_obedient_clips_from_others():
    steps = {1: (3.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0)}  # forward, static
    asked = [1, 0] * 4
    clips = []
    for seed, command in enumerate(asked):
        motion = EgoMotion(np.array(steps[command]), 1.0)
        clip = _drive(_world(seed), motion, FRAMES, 32)
        clip[:, 4 * (seed % 7) : 4 * (seed % 7) + 4, 8:12, 1] = VEHICLE
        clips.append(torch.from_numpy(clip))
    layouts = [torch.zeros(FRAMES, 8, 8) for _ in asked]
    for seed, layout in enumerate(layouts):
        layout[:, seed % 7, 2] = 1
    options = dict(angle_threshold=0.15, forward_threshold=1.0)
    inputs = {"command": asked, "layout": layouts}
    metric = ConditionFidelity(command_options=options)
    good = _run(metric, clips, clips, inputs)
    assert good["command_accuracy@8"] == 1.0 and good["layout_iou@8"] == 1.0
    assert good["chance/layout_iou@8"] < 0.5
    wrong = _run(ConditionFidelity(command_options=options), clips, clips[1:] + clips[:1], inputs)
    assert wrong["command_accuracy@8"] == 0.0 and wrong["real/command_accuracy@8"] == 1.0
    with pytest.raises(KeyError, match="layout"):
        _run(ConditionFidelity(), clips, clips, {"command": asked})


def test_temporal_numbers_of_real_clips_against_themselves():
    clips = _clips(3)
    numbers = _run(TemporalConsistency(frame_time=0.2), clips, clips)
    assert numbers["static_iou@3"] > 0.9
    # Two voxels of 0.4 m in 0.2 s.
    assert numbers["ego_speed@3"] == pytest.approx(4.0, abs=0.3)
    assert numbers["w1_ego_speed@3"] == 0.0


def test_a_seam_between_worlds_is_seen():
    joined = [torch.cat([a, b]) for a, b in zip(_clips(2), _clips(2, first=50))]
    numbers = _run(
        TemporalConsistency(register=dict(lag=1), reach=2, seams=(FRAMES, FRAMES)), joined, joined
    )
    assert numbers["static_iou_seams@2"] < 0.75 < numbers["static_iou_within@2"]
