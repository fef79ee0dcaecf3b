# What every config of the toolbox shares: scope, hooks, logs, environment.
default_scope = "mmcity"

default_hooks = dict(
    runtime_info=dict(type="mmcity.RuntimeInfoHook"),  # reads all losses of a step at once
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),  # iterations between log lines
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Written whole or not at all, readable with weights_only=True, resumes exactly.
    checkpoint=dict(
        type="CityCheckpointHook",
        interval=1000,  # iterations (or epochs, with by_epoch=True) between checkpoints
        by_epoch=False,
        max_keep_ckpts=2,  # older ones are removed once a newer one is on disk
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # the tools take gloo where there is no GPU
)

# A seed makes runs repeatable; deterministic=True also asks it of cuDNN (slower).
randomness = dict(seed=0, deterministic=False)

vis_backends = [dict(type="LocalVisBackend")]
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
log_level = "INFO"
load_from = None  # weights to start from: a path or an URL
resume = False
