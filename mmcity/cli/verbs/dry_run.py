"""Tell the GPU memory, time and disk space that a config needs, without a GPU, data or weights."""

from mmcity.cli.options import command

EXAMPLE = "mmcity dry-run configs/streamvggt/streamvggt_1b_distill.py --gpu-memory 80GB --gpus 4"

add_arguments, run = command(
    "mmcity.engine.dry_run.estimate:dry_run", "config",
    image_size=dict(metavar=("WIDTH", "HEIGHT")),
    cfg_options=dict(example="model.aggregator.gradient_checkpointing=True"),
)  # fmt: skip
