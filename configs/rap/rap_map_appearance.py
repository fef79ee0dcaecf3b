# The map of the published system, on any COLMAP scene: appearance-varying Gaussians with
# deblurring. Driving and large scenes: 90 000 iterations, refine_stop=25000,
# grow_grad2d=1e-4, final_ratio of the means 1e-3.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/models/appearance_gaussians.py",
    "../_base_/datasets/colmap_scene.py",
]

max_iters = 30_000
train_dataloader = dict(
    dataset=dict(
        resize=dict(_delete_=True, factor=1),
        split_by="auto",  # "none" trains on all images; "fraction" with train_fraction=0.8
        mask_dir=None,  # "auto": folder masks, nonzero counts
        depth_dir=None,  # "auto": folder depths
        depth_kind="metric",  # 16-bit millimetres; "inverse" with depth_params.json
    )
)
test_dataloader = dict(dataset=dict(resize=dict(_delete_=True, factor=1)))
val_dataloader = test_dataloader
optim_wrapper = dict(
    constructor="GaussianOptimWrapperConstructor",
    optimizer=dict(type="Adam", lr=1e-3, eps=1e-15, fused=True),
    paramwise_cfg=dict(
        groups=[
            dict(name="splats.means", lr=1.6e-4, times_extent=True),
            dict(name="splats.f_intr", lr=1.25e-4),
            dict(name="splats.opacity_logits", lr=2.5e-2),
            dict(name="splats.log_scales", lr=5e-3),
            dict(name="splats.quats", lr=1e-3),
            dict(name="splats.box_coords", lr=1.0),
            dict(name="appearance.map_generator.", lr=2e-3, optional=True),
            dict(name="appearance.color_net.", lr=5e-4, optional=True),
            dict(name="motion.", lr=1e-3, optional=True),
            dict(name="mask_head.", lr=1e-3, optional=True),
            dict(name="renderer.", lr=1e-2, optional=True),
        ]
    ),
)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
    dict(type="ExponentialDecayLR", groups=["splats.box_coords"], final_ratio=0.01, end=max_iters),
    dict(
        type="ExponentialDecayLR",
        groups=["appearance.map_generator."],
        final_ratio=0.1,
        end=max_iters,
        optional=True,  # use_color_net=False
    ),
    dict(  # motion=None
        type="ExponentialDecayLR",
        groups=["motion."],
        final_ratio=0.5,
        end=max_iters,
        optional=True,
    ),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    checkpoint=dict(interval=5000),
    scene_init=dict(type="SceneInitHook"),
    growth=dict(
        type="DensificationHook",
        strategy=dict(
            type="DefaultStrategy",
            refine_start=500,
            refine_stop=15_000,
            refine_every=100,
            grow_grad2d=4e-4,
            grow_scale3d=0.01,
            prune_opacity=0.005,
            prune_scale3d=0.1,
            prune_radius2d=20.0,
            prune_any=True,  # False: remove only what is transparent, large and huge at once
            reset_every=3000,
            extra_resets=(),  # (500,) with a white background
            exposure_max=True,
        ),
    ),
    export=dict(type="SceneExportHook", formats=("ply",)),
)
