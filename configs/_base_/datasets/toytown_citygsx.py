# The toy town in the CityGS-X layout, with its inverse depth priors. Made by
#   mmcity data toytown --out data/toytown --formats citygsx
# Any capture in that layout fits: Mill-19, UrbanScene3D, by data_root.
data_root = "data/toytown/citygsx"

train_dataloader = dict(
    batch_size=1,  # views per step
    num_workers=0,  # pictures are decoded once and kept, see cache_bytes
    collate_fn=dict(type="pseudo_collate"),
    sampler=dict(type="CameraSampler", batch_size=1),
    dataset=dict(
        type="ColmapDataset",
        data_root=data_root,
        split="train",
        split_by="val_folder",  # a picture is held out when its name exists in val/rgbs
        image_dir="train/rgbs",
        depth_dir=None,  # "train/depths" once depth_params.json is fitted
        mask_dir=None,  # "train/mask" for the multi-view filter of the priors
        resize=dict(factor=1),  # 4 for the captures of Mill-19
        cache_bytes=8e9,  # memory for decoded pictures
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
        resize=dict(factor=1),
        cache_bytes=2e9,
    ),
)
val_dataloader = test_dataloader

test_evaluator = dict(type="ImageQualityMetric", split="test")
val_evaluator = dict(type="ImageQualityMetric", split="val")
