# A COLMAP scene: images and sparse/0, or the CityGS-X layout. All by data_root.
data_root = "data/scene"

# One rule for the size of pictures: long_side, factor, target_width or resolution.
resize = dict(resolution=-1)  # as the research codes: at most 1600 px wide

train_dataloader = dict(
    batch_size=1,  # views per step
    num_workers=0,  # pictures are decoded once and kept, see cache_bytes
    collate_fn=dict(type="pseudo_collate"),
    sampler=dict(type="CameraSampler", batch_size=1),
    dataset=dict(
        type="ColmapDataset",
        data_root=data_root,
        split="train",
        split_by="auto",  # list_test.txt, *.tsv, val/rgbs, else every 8th image is held out
        resize=resize,
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
        split_by="auto",
        resize=resize,
        cache_bytes=2e9,
    ),
)
val_dataloader = test_dataloader

test_evaluator = dict(
    type="ImageQualityMetric",
    split="test",
    lpips_weights=None,  # file with LPIPS weights; None leaves LPIPS out
)
val_evaluator = dict(type="ImageQualityMetric", split="val")
