"""Choose density thresholds of a GaussTR model on frames with ground truth.

The thresholds are chosen on the split that is named: take one that results are not reported on.
Test with --cfg-options model.gauss_head.vocabulary=my_vocabulary.yaml.
"""

from mmcity.cli.options import command

EXAMPLE = (
    "python tools/analysis_tools/calibrate_thresholds.py CONFIG CHECKPOINT --split train "
    "--frames 20 --out my_vocabulary.yaml"
)


def _show(result, args):
    print(
        f"{args.out}: density threshold {result.density_threshold:.3f}, own thresholds of "
        f"{len(result.class_thresholds)} classes\n"
        f"IoU {result.iou_before:.2f} to {result.iou_after:.2f}, mIoU {result.miou_before:.2f} to "
        f"{result.miou_after:.2f} on {result.frames} frames of {args.split}"
    )


add_arguments, run = command(
    "mmcity.apis.occupancy.threshold_calibration:calibrate_thresholds", "config checkpoint", _show,
    split=("train", "val", "test"),
)  # fmt: skip
