# Occ3D-nuScenes, 16 x 200 x 200 x 16 clips at 2 Hz.
_base_ = ["./dynamiccity_vae_waymo.py"]
data_root = "data/nuscenes"

dataset = dict(
    _delete_=True,
    type="Occ3DNuScenesOccSequence",
    data_root=data_root,
    split="gts",
    sequence_length=16,
)
train_dataloader = dict(
    dataset=dict(
        order_file="nuscenes_infos_train.pkl",  # of mmcity data nuscenes: order and poses
        pipeline=[dict(type="PackOccInputs", with_target=False)],
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        order_file="nuscenes_infos_val.pkl",
        pipeline=[dict(type="PackOccInputs")],
        **dataset,
    ),
)
test_dataloader = val_dataloader
