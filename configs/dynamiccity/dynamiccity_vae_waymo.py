# Occ3D-Waymo, 16 x 200 x 200 x 16 clips.
_base_ = [
    "../_base_/models/hexplane_vae.py",
    "../_base_/schedules/hexplane_vae_100e.py",
    "../_base_/default_runtime.py",
]
data_root = "data/occ3d_waymo"

model = dict(
    spatial_size=(200, 200, 16),
    # no published counts; None weighs all classes alike
    class_frequencies=None,
    with_checkpoint=True,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="Occ3DWaymoOccSequence",
        data_root=data_root,
        split="training",
        sequence_length=16,
        pipeline=[dict(type="PackOccInputs", with_target=False)],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="Occ3DWaymoOccSequence",
        data_root=data_root,
        split="validation",
        sequence_length=16,
        pipeline=[dict(type="PackOccInputs")],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="OccIoU", num_classes=12)
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(interval=4016, save_best="occ/mIoU", rule="greater"),
)
