# Baseline of dynamiccity_vae_semantickitti_cpu.py: mean over the collapsed axes instead of the
# Projection Module, a query MLP instead of Expansion & Squeeze, for the same CPU time.
_base_ = ["./dynamiccity_vae_semantickitti_cpu.py"]
max_iters = 2000

model = dict(projector="average", decoder_type="query", mlp_hidden_channels=64)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.1, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
