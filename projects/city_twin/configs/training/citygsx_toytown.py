# CityGS-X on the small survey of the city twin: a shorter schedule of the toy-town config.
_base_ = ["../../../../configs/citygsx/citygsx_toytown_cpu.py"]

max_iters = 1500
model = dict(
    objective=dict(
        single_view_weight_from_iter=500,
        dpt_loss_from_iter=300,
        dpt_end_iter=max_iters,
        multi_view_weight_from_iter=900,
        multi_view_samples=4000,
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(
        type="ExponentialDecayLR",
        groups=["anchors.positions", "anchors.offsets", "decoder.opacity_mlp."],
        final_ratio=0.01,
        end=max_iters,
    ),
    dict(
        type="ExponentialDecayLR",
        groups=["decoder.color_mlp."],
        final_ratio=0.00625,
        end=max_iters,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=500),
    growth=dict(strategy=dict(start=150, stop=1100, max_anchors=12_000)),
    export=None,  # the chain bakes the scene
)
