# A COLMAP scene with list_test.txt (or *.tsv): mapped images train, queries test.
data_root = "data/scene"
resize = dict(factor=2, interpolation="bilinear")  # photographs that the pose network sees

selection_every = 10  # of the mapped images, kept out of training; 0: none
train_dataloader = dict(
    batch_size=8,
    num_workers=0,  # pictures are decoded once and kept, see cache_bytes
    collate_fn=dict(type="pseudo_collate"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    drop_last=True,
    dataset=dict(
        type="ColmapDataset",
        data_root=data_root,
        split="train",
        selection_every=selection_every,
        split_by="auto",
        resize=resize,
        require_points=False,
        cache_bytes=8e9,
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type="pseudo_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ColmapDataset",
        data_root=data_root,
        split="test",
        split_by="auto",
        resize=resize,
        require_points=False,
        cache_bytes=2e9,
    ),
)
# Checkpoints are chosen on a part of the mapped images, never on queries. (Published models were
# chosen on queries: val_dataloader=test_dataloader and selection_every=0 repeat that.)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type="pseudo_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ColmapDataset",
        data_root=data_root,
        split="selection",
        selection_every=selection_every,
        split_by="auto",
        resize=resize,
        require_points=False,
        cache_bytes=2e9,
    ),
)
unit_scale = 1.0  # metres per scene unit
test_evaluator = dict(type="PoseMetric", unit_scale=unit_scale, metric=True)  # False: in units
val_evaluator = test_evaluator
