# Any COLMAP scene on two CPU cores in about four minutes, long side 480 px.
#   python tools/train.py configs/gaussian_splatting/3dgs_colmap_cpu.py --cfg-options data_root=DIR
#   python tools/test.py configs/gaussian_splatting/3dgs_colmap_cpu.py CHECKPOINT \
#       --cfg-options data_root=DIR
_base_ = ["./3dgs_mcmc_colmap.py"]

resize = dict(_delete_=True, long_side=480)  # cost grows with the number of pixels
max_iters = 5000  # mmcity train --max-iters N or --minutes M scales all numbers of iterations
max_gaussians = 60_000  # a low cap is cheap, and keeps few views from being learnt by heart

model = dict(
    sh_degree=2,
    sh_degree_interval=800,
    init=dict(opacity=0.5, scale_factor=1.0),
    # A smooth sky fills what no Gaussian explains, also where no training view looked.
    renderer=dict(background=dict(_delete_=True, type="SphericalHarmonicsBackground", degree=3)),
    # Exposure differs between photographs; an unseen one gets that of the training ones
    # before and after it ("neighbours"). For captures in no order take "mean".
    exposure=dict(type="AffineExposure", test_exposure="neighbours", regularization=0.1),
    losses=dict(
        # Too strong, they blur fine texture of low contrast; without them, floaters stay.
        loss_opacity=dict(loss_weight=0.003),
        loss_scale=dict(loss_weight=0.003),
    ),
    resolution_schedule=[(0, 2), (1200, 1)],  # half size first: a quarter of the cost
)
train_dataloader = dict(dataset=dict(resize=resize))
test_dataloader = dict(dataset=dict(resize=resize))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
]
default_hooks = dict(
    checkpoint=dict(interval=1000),
    growth=dict(
        strategy=dict(
            max_gaussians=max_gaussians, refine_start=300, refine_stop=4200, refine_every=50
        )
    ),
)
