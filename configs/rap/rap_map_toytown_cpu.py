# The map for rap_toytown_cpu.py: Gaussians of the toy town's mapped photographs, 320 px.
_base_ = ["../gaussian_splatting/3dgs_colmap_cpu.py"]

data_root = "data/toytown/colmap_loc"
resize = dict(_delete_=True, long_side=320)
max_iters = 3000
max_gaussians = 40_000

model = dict(
    sh_degree=1,  # few photographs see each place: view dependence would be learnt by heart
    sh_degree_interval=1000,
    exposure=None,  # one camera, one day
    resolution_schedule=[(0, 2), (800, 1)],
)
train_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
test_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
]
custom_hooks = [
    dict(type="SceneInitHook"),
    dict(
        type="DensificationHook",
        strategy=dict(
            type="MCMCStrategy",
            max_gaussians=max_gaussians,
            refine_start=200,
            refine_stop=2600,
            refine_every=50,
            noise_lr=5e5,
        ),
    ),
    dict(type="SceneExportHook", formats=("ply",)),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
