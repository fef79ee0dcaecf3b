# A user's config of version 0.1: hooks in a list, which replaced that of the base.
_base_ = ["../../../configs/citygsx/citygsx_toytown_cpu.py"]

model = dict(anchors=dict(default_voxel_size=20.0), resolution_schedule=None)
train_dataloader = dict(dataset=dict(resize=None))
test_dataloader = dict(dataset=dict(resize=None))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=6, val_interval=6)
custom_hooks = [
    dict(type="SceneInitHook"),
    dict(
        type="AnchorGrowthHook",
        strategy=dict(
            type="AnchorGrowthStrategy",
            start=1,
            stop=6,
            interval=2,
            max_log_scale=None,
            max_anchors=400,
        ),
    ),
]
default_hooks = dict(checkpoint=dict(interval=3))
