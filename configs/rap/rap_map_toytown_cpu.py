# The map for rap_toytown_cpu.py: Gaussians of the toy town's mapped photographs.
_base_ = ["../gaussian_splatting/3dgs_colmap_cpu.py"]

data_root = "data/toytown/colmap_loc"
resize = dict(long_side=400)
max_iters = 5000
max_gaussians = 80_000

model = dict(
    sh_degree=1,  # few photographs see each place: view dependence would be learnt by heart
    sh_degree_interval=1000,
    exposure=None,  # one camera, one day
    resolution_schedule=[(0, 2), (1000, 1)],
)
train_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
# Queries were taken with another exposure: a few are enough to see that nothing broke.
test_dataloader = dict(dataset=dict(data_root=data_root, resize=resize, indices=8))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
]
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    growth=dict(strategy=dict(max_gaussians=max_gaussians, refine_start=200)),
)
