# The toy town, which the toolbox makes itself:
#   mmcity data toytown --out data/toytown --formats citygsx
#   python tools/train.py configs/gaussian_splatting/3dgs_toytown_cpu.py
_base_ = ["./3dgs_colmap_cpu.py"]

data_root = "data/toytown/citygsx"
max_iters = 3000

model = dict(resolution_schedule=[(0, 2), (500, 1)], sh_degree_interval=500)
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
]
default_hooks = dict(
    growth=dict(strategy=dict(max_gaussians=30_000, refine_start=200, refine_stop=2500)),
)
