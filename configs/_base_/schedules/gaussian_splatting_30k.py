# 30 000 iterations with adaptive density control, rates as published.
_base_ = ["../default_runtime.py"]

max_iters = 30000

train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    constructor="GaussianOptimWrapperConstructor",
    optimizer=dict(type="Adam", lr=1e-3, eps=1e-15, fused=True),
    paramwise_cfg=dict(
        groups=[
            # Rates of the means are in units of the scene's extent.
            dict(name="splats.means", lr=1.6e-4, times_extent=True),
            dict(name="splats.log_scales", lr=5e-3),
            dict(name="splats.quats", lr=1e-3),
            dict(name="splats.opacity_logits", lr=5e-2),
            dict(name="splats.sh0", lr=2.5e-3),
            dict(name="splats.shN", lr=1.25e-4),
            dict(name="renderer.", lr=1e-2, optional=True),  # a background that learns
            dict(name="exposure.", lr=1e-3, optional=True),
        ]
    ),
)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
]

default_hooks = dict(
    scene_init=dict(type="SceneInitHook"),
    growth=dict(
        type="DensificationHook",
        log_interval=500,  # iterations between log lines on what grew
        strategy=dict(
            type="DefaultStrategy",
            refine_start=500,
            refine_stop=15000,
            refine_every=100,
            grow_grad2d=2e-4,  # lower: more Gaussians
            absgrad=False,  # True: finer detail; then grow_grad2d=8e-4
            reset_every=3000,
            max_gaussians=None,  # cap against running out of memory
        ),
    ),
    export=dict(type="SceneExportHook", formats=("ply",)),
)
