# Every stage of the city twin in its smallest form: its numbers mean nothing.
_base_ = ["../../projects/city_twin/configs/toytown_cpu.py"]

work_dir = "work_dirs/tiny_twin"
_short = {"train_cfg.max_iters": 4, "default_hooks.checkpoint.interval": 2}

stages = dict(
    images=dict(num_images=10, image_size=(96, 72), num_points=800, workers=1),
    stream_model=dict(
        towns=2,
        num_images=6,
        cfg_options={
            **_short,
            "train_cfg.val_interval": 4,
            "train_dataloader.dataset.quotas": "[8]",
        },
    ),
    geometry=dict(max_points=500),
    reconstruction=dict(cfg_options={**_short, "train_cfg.val_interval": 4}),
    mesh=dict(voxel_size=2.0, min_triangles=1),
    baked=dict(max_per_cell=2000),
    pose_network=dict(
        cfg_options={
            "train_cfg.max_epochs": 2,
            "train_cfg.val_interval": 2,
            "default_hooks.checkpoint.interval": 1,
        }
    ),
    localization=dict(long_side=96, starts=1),
    occupancy=dict(voxel_size=2.0),
    future_model=dict(
        towns=3,
        frames=8,
        vae_options={**_short, "train_cfg.val_interval": 4},
        cfg_options=_short,
    ),
    future=dict(start=(0.0, 0.0, 0.0), windows=1),
    tour=dict(frames=3, long_side=64),
)
