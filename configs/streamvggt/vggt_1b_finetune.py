# Supervised fine-tuning of VGGT-1B on data with cameras and depth.
_base_ = ["./vggt_1b.py", "../_base_/schedules/streamvggt_mixture.py"]

model = dict(
    init_cfg=dict(type="Pretrained", checkpoint="checkpoints/vggt_1b.pth"),
    frozen_parts=(
        "aggregator.patch_embed",
        "aggregator.camera_token",
        "aggregator.register_token",
        "track_head",  # the data holds no tracks
    ),
    loss=dict(
        type="PoseRegressionLoss",
        confidence_weight=0.2,
        pose_weight=5.0,
        max_pose_loss=0.3,  # poses further off pull no more
        upstream=False,  # True: poses in the published, inconsistent convention
    ),
)
default_hooks = dict(checkpoint=dict(interval=975))  # a tenth of an epoch
