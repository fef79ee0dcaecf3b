# 100 000 views with growth of anchors in the first half, rates as published.
# With more views per step divide max_iters and rate_end by them.
_base_ = ["../default_runtime.py"]

max_iters = 100000  # steps
rate_end = 50000  # step of the final rates

train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    constructor="GaussianOptimWrapperConstructor",
    optimizer=dict(type="Adam", lr=1e-3, eps=1e-15, fused=True),
    paramwise_cfg=dict(
        groups=[
            # Rates of positions and offsets are in units of the scene's extent.
            dict(name="anchors.positions", lr=1.6e-4, times_extent=True),
            dict(name="anchors.offsets", lr=0.01, times_extent=True),
            dict(name="anchors.features", lr=0.0075),
            dict(name="anchors.log_scales", lr=0.007),
            dict(name="decoder.opacity_mlp.", lr=2e-3),
            dict(name="decoder.cov_mlp.", lr=4e-3),
            dict(name="decoder.color_mlp.", lr=8e-3),
            dict(name="decoder.feature_bank_mlp.", lr=0.01, optional=True),
            dict(name="decoder.appearance.", lr=0.05, optional=True),
            dict(name="background.", lr=1e-2, optional=True),  # a background that learns
            dict(name="exposure.", lr=1e-3, optional=True),
        ]
    ),
)
param_scheduler = [
    dict(
        type="ExponentialDecayLR",
        groups=["anchors.positions", "anchors.offsets", "decoder.opacity_mlp."],
        final_ratio=0.01,
        end=rate_end,
    ),
    dict(
        type="ExponentialDecayLR",
        groups=["decoder.color_mlp."],
        final_ratio=0.00625,
        end=rate_end,
    ),
    # With the networks in use also: decoder.feature_bank_mlp. to 1e-3, decoder.appearance. to
    # 0.01 of the first rate.
]

default_hooks = dict(
    scene_init=dict(type="SceneInitHook"),
    growth=dict(
        type="AnchorGrowthHook",
        log_interval=500,  # steps between log lines on what grew
        batch_lr_rule="sqrt_grendel",  # the original: "none"
        strategy=dict(
            type="AnchorGrowthStrategy",
            interval=100,
            start=500,
            stop=50000,
            grad_threshold=2e-4,  # lower: more anchors
            success=0.8,
            update_ratio=0.2,
            extra_ratio=0.25,
            extra_up=0.01,
            min_opacity=0.005,
            max_log_scale=0.05,  # in log of world units, as the original; None for no bound
            max_anchors=None,  # caps against running out of memory
            max_bytes=None,
            disable=False,
        ),
    ),
    export=dict(type="SceneExportHook", formats=("ply",)),  # baked to plain Gaussians
)
