"""Choose density thresholds of a GaussTR model on frames with ground truth.

The thresholds are chosen on the split that is named: take one that results are not reported on.
Test with --cfg-options model.gauss_head.vocabulary=my_vocabulary.yaml.
"""

import argparse

from mmcity.cli import flags

EXAMPLE = (
    "python tools/analysis_tools/calibrate_thresholds.py CONFIG CHECKPOINT --split train "
    "--frames 20 --out my_vocabulary.yaml"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the calibration."""
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--frames", type=int, default=20, help="key frames, evenly chosen")
    parser.add_argument("--out", required=True, help="vocabulary (YAML) to write")
    flags.add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    """Calibrate."""
    from mmcity.apis.occupancy.threshold_calibration import calibrate_thresholds

    result = calibrate_thresholds(**flags.function_arguments(args))
    print(
        f"{args.out}: density threshold {result.density_threshold:.3f}, own thresholds of "
        f"{len(result.class_thresholds)} classes\n"
        f"IoU {result.iou_before:.2f} to {result.iou_after:.2f}, mIoU {result.miou_before:.2f} to "
        f"{result.miou_after:.2f} on {result.frames} frames of {args.split}"
    )
