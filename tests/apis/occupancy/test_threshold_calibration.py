"""Thresholds found by counting once are those found by trying every one."""

from types import SimpleNamespace

import pytest
import torch

from mmcity.apis.occupancy import threshold_calibration
from mmcity.apis.occupancy.threshold_calibration import ThresholdCalibrator, calibrate_thresholds
from mmcity.evaluation.functional.occupancy import count_occupancy
from mmcity.models.gausstr import Vocabulary, load_vocabulary, save_vocabulary
from mmcity.models.gausstr.labelling import label_voxels

WORDS = Vocabulary(["a", "b", "sky"], [1, 1, 1], [1, 2, 3], free_label=3, denoise=False)
CANDIDATES = (0.05, 0.2, 0.4, 0.8)


def frame(seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (12, 12, 4)
    target = torch.randint(1, 4, shape, generator=generator)
    prompts = torch.rand(*shape, 3, generator=generator)
    prompts.scatter_add_(-1, (target - 1)[..., None], 0.5 * torch.rand(*shape, 1))
    # Class 1 is dense, class 2 faint, free voxels lie between.
    base = torch.tensor([0.0, 0.9, 0.3, 0.1])[target]
    density = (base + 0.3 * torch.rand(shape, generator=generator))[..., None]
    return density, prompts, target, torch.rand(shape, generator=generator) < 0.8


def scores(frames, threshold, classes):
    words = Vocabulary(
        WORDS.prompts, WORDS.groups, WORDS.labels, free_label=3, denoise=False,
        density_threshold=threshold, class_thresholds=classes,
    )  # fmt: skip
    total = None
    for density, prompts, target, valid in frames:
        pred = label_voxels(density[None], prompts[None], words)[0]
        counts = count_occupancy(pred, target, 4, 3, valid)
        total = counts if total is None else total + counts
    seen = (total.true_positive + total.false_positive + total.false_negative) > 0
    seen[3] = False
    return total.binary_iou(), total.mean_iou(seen)


def test_best_thresholds_are_those_of_brute_force():
    frames = [frame(seed) for seed in range(3)]
    calibrator = ThresholdCalibrator(WORDS, 4, CANDIDATES)
    calibrator.add_frames(frames)
    result = calibrator.result()
    tried = {t: scores(frames, t, {})[0] for t in (0.04, *CANDIDATES)}
    assert result.density_threshold == pytest.approx(max(tried, key=tried.get))
    iou, miou = scores(frames, result.density_threshold, result.class_thresholds)
    assert result.iou_after == pytest.approx(iou, abs=1e-4)
    assert result.miou_after == pytest.approx(miou, abs=1e-4)
    before = scores(frames, 0.04, {})
    assert (result.iou_before, result.miou_before) == pytest.approx(before, abs=1e-4)
    above = [t for t in CANDIDATES if t > result.density_threshold - 1e-6]
    best = max(
        scores(frames, result.density_threshold, {1: a, 2: b})[1] for a in above for b in above
    )
    assert result.miou_after == pytest.approx(best, abs=1e-4)


def test_thresholds_travel_in_a_vocabulary_file(tmp_path):
    save_vocabulary(tmp_path / "words.yaml", WORDS, 0.2, {2: 0.4})
    read = load_vocabulary(tmp_path / "words.yaml")
    assert (read.density_threshold, read.class_thresholds) == (0.2, {2: 0.4})
    assert (list(read.prompts), read.free_label, read.denoise) == (["a", "b", "sky"], 3, False)


def test_nothing_counted_is_an_error():
    with pytest.raises(RuntimeError, match="expected frames with ground truth"):
        ThresholdCalibrator(WORDS, 4).result()


def test_a_model_is_calibrated_on_frames_of_the_split(tmp_path, monkeypatch):
    frames = [frame(seed) for seed in range(5)]
    seen = []

    class Predictor:
        """Stands for a model whose volumes are known."""

        model = SimpleNamespace(gauss_heads=[SimpleNamespace(vocabulary=WORDS)])

        def __init__(self, config, checkpoint):
            seen.append(config.test_dataloader.dataset.ann_file)

        def count_frames(self, dataset):
            return len(frames)

        def predict_volumes(self, index, dataset):
            seen.append(index)
            density, prompts, target, valid = frames[index]
            sample = SimpleNamespace(gt_occupancy=target, mask_camera=valid)
            return dict(density=density[None], prompts=prompts[None]), sample

    monkeypatch.setattr(threshold_calibration, "OccupancyPredictor", Predictor)
    config = tmp_path / "config.py"
    loaders = [f"{s}_dataloader = dict(dataset=dict(ann_file='{s}.pkl'))" for s in ("val", "test")]
    config.write_text("\n".join(loaders))
    out = tmp_path / "words.yaml"
    result = calibrate_thresholds(config, "weights.pth", out, split="val", frames=3)
    assert seen == ["val.pkl", 0, 2, 4] and result.frames == 3
    calibrator = ThresholdCalibrator(WORDS)
    calibrator.add_frames([frames[0], frames[2], frames[4]])
    assert result == calibrator.result()
    assert load_vocabulary(out).density_threshold == pytest.approx(result.density_threshold)
