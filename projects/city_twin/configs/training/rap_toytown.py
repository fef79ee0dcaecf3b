# A small pose network on the baked map of the city twin.
_base_ = ["../../../../configs/rap/rap_colmap_cpu.py"]

epochs = 40
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=epochs, eta_min_ratio=0.01, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(checkpoint=dict(interval=10))
