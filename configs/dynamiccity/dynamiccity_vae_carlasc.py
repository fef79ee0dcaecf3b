_base_ = [
    "../_base_/models/hexplane_vae.py",
    "../_base_/datasets/carlasc_occ.py",
    "../_base_/default_runtime.py",
]

# 100 epochs of 32,130 clips at 8 clips a step
train_cfg = dict(type="IterBasedTrainLoop", max_iters=401600, val_interval=4016)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    dtype="float16",
    optimizer=dict(type="Adam", lr=1e-3, weight_decay=0.0),
)
# x 0.7 at epochs 50, 60, 70, 80, 90
param_scheduler = [
    dict(
        type="MultiStepLR",
        by_epoch=False,
        milestones=[200800, 240960, 281120, 321280, 361440],
        gamma=0.7,
    )
]
default_hooks = dict(
    checkpoint=dict(interval=4016, save_best="occ/mIoU", rule="greater"),
)
