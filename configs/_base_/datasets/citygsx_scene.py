# A scene in the CityGS-X layout: train/rgbs, val/rgbs, train/depths, train/mask, sparse/0.
data_root = "data/scene"
resize = dict(factor=4)  # the captures of Mill-19 and UrbanScene3D are about 5000 px wide

train_dataloader = dict(
    batch_size=1,  # views per step
    num_workers=0,  # pictures are decoded once and kept, see cache_bytes
    collate_fn=dict(type="pseudo_collate"),
    # shard=False: all processes take the same views and share the work on them.
    sampler=dict(type="CameraSampler", batch_size=1, shard=False),
    dataset=dict(
        type="CityGSXDataset",
        data_root=data_root,
        split="train",
        split_by="val_folder",  # a picture is held out when its name exists in val/rgbs
        image_dir="train/rgbs",
        depth_dir="train/depths",  # inverse depth; None trains without
        mask_dir="auto",  # train/mask, written by mmcity data filter-depth, where it is
        fit_depth="median",  # used where sparse/0/depth_params.json is missing
        resize=resize,
        point_stride=1,  # every k-th point of the model
        use_neighbours=True,
        multi_view_num=8,
        multi_view_max_angle=30.0,
        multi_view_min_dis=0.01,  # world units
        multi_view_max_dis=1.5,  # world units: adapt it to metric captures
        multi_view_min_num=5,
        cache_bytes=16e9,  # memory for decoded pictures, per process
        # With several processes: "replicated", "first_rank" (reads and sends), or "sharded"
        # (each keeps its part and sends).
        storage="replicated",
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    collate_fn=dict(type="pseudo_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ColmapDataset",
        data_root=data_root,
        split="test",
        split_by="val_folder",
        image_dir="train/rgbs",
        resize=resize,
        cache_bytes=2e9,
    ),
)
val_dataloader = test_dataloader

test_evaluator = dict(type="ImageQualityMetric", split="test")
val_evaluator = dict(type="ImageQualityMetric", split="val")
