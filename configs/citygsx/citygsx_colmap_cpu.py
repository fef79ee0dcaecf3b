# Any COLMAP scene on two CPU cores in about ten minutes.
#   python tools/train.py configs/citygsx/citygsx_colmap_cpu.py --cfg-options data_root=DIR
_base_ = ["./citygsx_colmap.py"]

resize = dict(_delete_=True, long_side=480)
max_iters = 3000
rate_end = 3000

model = dict(
    feat_dim=16,
    n_offsets=5,
    anchors=dict(coarse_iter=300),
    objective=dict(
        single_view_weight_from_iter=800,
        dpt_loss_from_iter=400,
        dpt_end_iter=3000,
        depth_l1_weight_init=0.5,
        multi_view_weight_from_iter=1800,
        multi_view_samples=10000,
    ),
)
train_dataloader = dict(dataset=dict(resize=resize, cache_bytes=4e9))
test_dataloader = dict(dataset=dict(resize=resize))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
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
]
custom_hooks = [
    dict(type="SceneInitHook"),
    dict(
        type="AnchorGrowthHook",
        strategy=dict(
            type="AnchorGrowthStrategy",
            start=200,
            stop=2000,
            success=0.2,  # of 100 views few look at the same place in so short a training
            max_log_scale=None,
            max_anchors=60000,
        ),
    ),
    dict(type="SceneExportHook", formats=("ply",)),
]
default_hooks = dict(checkpoint=dict(interval=1000))
