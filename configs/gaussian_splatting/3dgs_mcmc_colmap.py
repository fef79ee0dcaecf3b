# Any COLMAP scene on a GPU, with a fixed number of Gaussians (3DGS-MCMC, Kheradmand et al. 2024).
_base_ = ["./3dgs_colmap.py"]

model = dict(
    init=dict(opacity=0.5, scale_factor=0.1),
    losses=dict(
        loss_opacity=dict(type="OpacityLoss", loss_weight=0.01),
        loss_scale=dict(type="ScaleLoss", loss_weight=0.01),
    ),
)

default_hooks = dict(
    growth=dict(
        strategy=dict(
            _delete_=True,
            type="MCMCStrategy",
            max_gaussians=1_000_000,  # decides quality, memory and time
            refine_start=500,
            refine_stop=25000,
            refine_every=100,
            noise_lr=5e5,  # strength of the exploration, the same in any unit of length
        )
    )
)
