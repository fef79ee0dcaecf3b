# Any COLMAP scene on two CPU cores in about ten minutes.
#   python tools/train.py configs/citygsx/citygsx_colmap_cpu.py --cfg-options data_root=DIR
_base_ = ["./citygsx_colmap.py"]

resize = dict(_delete_=True, long_side=480)
max_iters = 3000
max_anchors = 26_000  # bytes of the scene; a low cap is cheap, too. The first anchors count

model = dict(
    feat_dim=16,
    n_offsets=5,
    # Spacings of the sparse points: wide enough to begin well below max_anchors.
    anchors=dict(coarse_iter=300, spacing_factor=7.0),
    objective=dict(
        scale_unit="extent",
        # The picture first: each geometry loss costs as much again as the picture does.
        single_view_weight_from_iter=2200,
        dpt_loss_from_iter=2200,
        dpt_end_iter=max_iters,
        depth_l1_weight_init=0.5,
        multi_view_weight_from_iter=2200,
        multi_view_samples=3000,
        multi_view_interval=3,
    ),
    # Exposure differs between photographs; an unseen one gets that of the training ones
    # before and after it ("neighbours"). For captures in no order take "mean".
    exposure=dict(type="AffineExposure", test_exposure="neighbours", regularization=0.1),
    resolution_schedule=[(0, 2), (600, 1)],  # half size first: a quarter of the cost
)
train_dataloader = dict(
    dataset=dict(
        resize=resize,
        cache_bytes=4e9,
        multi_view_max_dis=1e9,  # world units: the nearest views, however far
        multi_view_min_num=3,
    )
)
test_dataloader = dict(dataset=dict(resize=resize))
val_dataloader = test_dataloader
optim_wrapper = dict(
    paramwise_cfg=dict(
        groups=[
            dict(name="anchors.positions", lr=1.6e-4, times_extent=True),
            # Offsets are in units of the anchor: unlike the original's, their rate does not
            # grow with the extent, which in captures in metres would throw them about.
            dict(name="anchors.offsets", lr=0.01),
            dict(name="anchors.features", lr=0.0075),
            dict(name="anchors.log_scales", lr=0.007),
            dict(name="decoder.opacity_mlp.", lr=2e-3),
            dict(name="decoder.cov_mlp.", lr=4e-3),
            dict(name="decoder.color_mlp.", lr=8e-3),
            dict(name="background.", lr=1e-2, optional=True),
            dict(name="exposure.", lr=1e-3, optional=True),
        ],
    )
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
    checkpoint=dict(interval=1000),
    growth=dict(
        strategy=dict(
            start=200,
            stop=2200,
            success=0.2,  # of 100 views few look at the same place in so short a training
            max_log_scale=None,
            max_anchors=max_anchors,
        )
    ),
)
