# Feature network of the generation metrics on toy towns, less than a minute of one core.
_base_ = ["./occ_feature_net_carlasc.py"]
data_root = "data/toytown/carlasc/Cartesian"
crop = (32, 32, 8)  # as the VAE's
max_iters = 400

model = dict(channels=(16, 32, 64, 64))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, crop=crop),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, crop=crop, stride=4),
)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=max_iters, eta_min=1e-5)
]
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=max_iters))
