# A small VAE on toy towns written as CarlaSC, for two CPU cores:
#   mmcity data toytown --out data/toytown --formats carlasc \
#       --scenes 48 --frames 16 --traffic 1.5
_base_ = [
    "../_base_/models/hexplane_vae_toytown.py",
    "../_base_/default_runtime.py",
]
data_root = "data/toytown/carlasc/Cartesian"
sequence_length = 4
crop = (32, 32, 8)  # about the car, from the lowest layer
max_iters = 9000  # some 11 minutes of one core

model = _base_.vae_model
dataset = dict(
    type="CarlaSCOccSequence",
    data_root=data_root,
    sequence_length=sequence_length,
    crop=crop,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        random_crop=True,  # the drives show more of the world than what lies about the car
        class_balance=0.8,  # most crops hold something of a class drawn evenly
        split="Train",
        pipeline=[
            dict(type="FlipXYT", prob=0.9),
            dict(type="PackOccInputs", with_target=False),
        ],
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(split="Test", stride=4, pipeline=[dict(type="PackOccInputs")], **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="OccIoU", num_classes=12)
test_evaluator = val_evaluator

train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=3e-3))
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.1, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=max_iters))
