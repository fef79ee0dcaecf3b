# Feature network of the generation metrics on CarlaSC: repairs corrupted frames.
_base_ = [
    "../_base_/datasets/carlasc_occ.py",
    "../_base_/default_runtime.py",
]
model = dict(
    type="OccFeatureNet",
    num_classes=12,
    channels=(32, 64, 128, 128),  # the last is the length of the features
    corruption=0.3,
    histogram_weight=0.5,  # of the loss on class shares
)
train_dataloader = dict(batch_size=4, dataset=dict(sequence_length=1))
val_dataloader = dict(batch_size=4, dataset=dict(sequence_length=1, stride=10))
test_dataloader = val_dataloader
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=40000)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=40000, eta_min=1e-5)]
