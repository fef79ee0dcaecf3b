# 301k steps at 128 rollouts a step over all processes, constant rate, EMA of every step.
_base_ = ["../default_runtime.py"]

train_cfg = dict(type="IterBasedTrainLoop", max_iters=301200)
optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    dtype="float16",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.0),
)
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=1e-4),  # decay 0.9999
)
# The batch over all processes that the learning rate is for, as published: 8 GPUs x 16.
auto_scale_lr = dict(enable=False, base_batch_size=128)
