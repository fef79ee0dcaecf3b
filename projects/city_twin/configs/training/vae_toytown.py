# The small autoencoder of street clips, shorter than in its own config.
_base_ = ["../../../../configs/dynamiccity/dynamiccity_vae_toytown_cpu.py"]

max_iters = 1500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.1, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=100))
