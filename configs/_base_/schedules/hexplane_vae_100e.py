# 100 epochs of 32,130 clips at 8 clips a step; the rate falls by 0.7 at 50, 60, 70, 80, 90.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=401600, val_interval=4016)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    dtype="float16",
    optimizer=dict(type="Adam", lr=1e-3, weight_decay=0.0),
)
param_scheduler = [
    dict(
        type="MultiStepLR",
        by_epoch=False,
        milestones=[200800, 240960, 281120, 321280, 361440],
        gamma=0.7,
    )
]
# The batch over all processes that the learning rate is for, as published: 8 GPUs x 1.
auto_scale_lr = dict(enable=False, base_batch_size=8)
