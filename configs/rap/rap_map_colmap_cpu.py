# A map to localise in, of any COLMAP scene on two CPU cores, long side 480 px.
_base_ = ["../gaussian_splatting/3dgs_colmap_cpu.py"]

max_iters = 3000
model = dict(sh_degree=1, sh_degree_interval=800, resolution_schedule=[(0, 2), (800, 1)])
test_dataloader = dict(dataset=dict(indices=8))  # a look at the quality, no benchmark
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
]
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    growth=dict(strategy=dict(refine_start=200, refine_stop=2500)),
)
