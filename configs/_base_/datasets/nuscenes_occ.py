# nuScenes key frames with Occ3D targets; pipelines are set by the configs.
data_root = "data/nuscenes/"
cameras = [
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="NuScenesOccDataset",
        data_root=data_root,
        ann_file="nuscenes_infos_train.pkl",
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NuScenesOccDataset",
        data_root=data_root,
        ann_file="nuscenes_infos_val.pkl",
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="OccMetric",
    num_classes=18,
    use_image_mask=True,  # count what a camera sees
    use_lidar_mask=False,
    ray_iou=False,
)
test_evaluator = val_evaluator
