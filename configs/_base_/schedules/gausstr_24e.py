# 24 epochs of AdamW, as published.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=24, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    dtype="float16",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=5e-3),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type="MultiStepLR", by_epoch=True, milestones=[16], gamma=0.1),
]
# The batch over all processes that the learning rate is for, as published: 8 GPUs x 2.
auto_scale_lr = dict(enable=False, base_batch_size=16)
