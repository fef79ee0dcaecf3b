"""Best density thresholds of a GaussTR model, from frames with ground truth.

``python tools/analysis_tools/calibrate_thresholds.py CONFIG CHECKPOINT --split train --frames 20
--out my_vocabulary.yaml``; test with
``tools/test.py CONFIG CHECKPOINT --cfg-options model.gauss_head.vocabulary=my_vocabulary.yaml``.

The thresholds are chosen on the split that is named: take one that results are not reported on.
"""

import argparse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Choose density thresholds of occupancy")
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--frames", type=int, default=20, help="key frames, evenly chosen")
    parser.add_argument("--out", required=True, help="vocabulary (YAML) to write")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Calibrate."""
    args = parse_args(argv)

    import numpy as np
    from rich.progress import track

    from mmcity.apis import OccupancyPredictor
    from mmcity.apis.occupancy.threshold_calibration import ThresholdCalibrator
    from mmcity.engine import launch
    from mmcity.models.gausstr import save_vocabulary

    config = launch.load_config(args.config, launch.parse_options(args.cfg_options))
    # The training pipeline has no ground truth; the test pipeline reads any split.
    dataset = config.test_dataloader.dataset
    dataset.ann_file = config[f"{args.split}_dataloader"].dataset.ann_file
    predictor = OccupancyPredictor(config, args.checkpoint)
    vocabulary = predictor.model.gauss_heads[-1].vocabulary
    calibrator = ThresholdCalibrator(vocabulary)
    count = predictor.count_frames("test")
    chosen = np.unique(np.linspace(0, count - 1, min(args.frames, count)).astype(int))
    for index in track(chosen, description="frames"):
        volumes, sample = predictor.predict_volumes(int(index), "test")
        calibrator.add(
            volumes["density"][0],
            volumes["prompts"][0],
            sample.gt_occupancy,
            sample.mask_camera.bool(),
        )
    result = calibrator.result()
    save_vocabulary(args.out, vocabulary, result.density_threshold, result.class_thresholds)
    print(
        f"{args.out}: density threshold {result.density_threshold:.3f}, own thresholds of "
        f"{len(result.class_thresholds)} classes\n"
        f"IoU {result.iou_before:.2f} to {result.iou_after:.2f}, mIoU {result.miou_before:.2f} to "
        f"{result.miou_after:.2f} on {len(chosen)} frames of {args.split}"
    )


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
