# The published recipe: VGGT-1B teaches StreamVGGT-1B, which starts from the same weights.
_base_ = ["./streamvggt_1b.py", "../_base_/schedules/streamvggt_mixture.py"]

vggt_checkpoint = "checkpoints/vggt_1b.pth"  # of mmcity convert-checkpoint

model = dict(
    teacher=dict(type="VGGT"),  # its defaults are the 1B sizes
    teacher_checkpoint=vggt_checkpoint,
    init_cfg=dict(type="Pretrained", checkpoint=vggt_checkpoint),
    frozen_parts=(
        "aggregator.patch_embed",
        "aggregator.camera_token",
        "aggregator.register_token",
    ),
    loss=dict(
        type="DistillationLoss",
        camera_weight=20.0,
        depth_weight=20.0,
        points_weight=10.0,
        track_weight=0.5,
        confidence_weight=0.1,
    ),
    num_queries=64,  # points to track per clip
)
default_hooks = dict(checkpoint=dict(interval=975))  # a tenth of an epoch
