# A user's config of version 0.1: hooks in a list, which replaced that of the base.
_base_ = ["../../../configs/gaussian_splatting/3dgs_toytown_cpu.py"]

model = dict(resolution_schedule=None, sh_degree_interval=2)
train_dataloader = dict(dataset=dict(resize=None))
test_dataloader = dict(dataset=dict(resize=None))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=6, val_interval=6)
custom_hooks = [
    dict(type="SceneInitHook"),
    dict(
        type="DensificationHook",
        strategy=dict(
            type="MCMCStrategy",
            max_gaussians=420,
            refine_start=1,
            refine_stop=6,
            refine_every=2,
            noise_lr=5e5,
        ),
    ),
]
default_hooks = dict(checkpoint=dict(interval=3))
