# The small diffusion model of street clips, shorter than in its own config; it goes on with the
# clip before (condition `hexplane`).
_base_ = ["../../../../configs/dynamiccity/dynamiccity_dit_toytown_cpu.py"]

max_iters = 700
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.05, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=5e-5),
]
default_hooks = dict(checkpoint=dict(interval=100))
