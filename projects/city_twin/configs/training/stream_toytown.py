# The small streaming network on surveys of other toy towns: trained on exact geometry without
# a teacher, which such a short schedule could not use.
_base_ = ["../../../../configs/streamvggt/streamvggt_toytown_cpu.py"]

max_iters = 400
warmup_iters = 40
batch_size = 1
num_views = 4  # frames per clip
dense_head = dict(features=24, out_channels=(24, 32, 48, 48), layers=(1, 2, 3, 4))

model = dict(
    _delete_=True,
    type="StreamVGGT",
    aggregator=dict(
        img_size=112,
        patch_size=14,
        embed_dim=128,
        depth=5,
        num_heads=4,
        mlp_ratio=3.0,
        num_register_tokens=4,
        patch_embed="conv",
        layer_scale=0.3,
    ),
    camera_head=dict(trunk_depth=2, num_heads=4, mlp_ratio=2.0, layer_scale=0.3),
    depth_head=dense_head,
    point_head=dense_head,
    track_head=None,
    loss=dict(
        type="GroundTruthLoss",
        camera_weight=5.0,
        depth_weight=1.0,
        points_weight=0.3,
        confidence_weight=0.1,
        log_depth=True,
    ),
)
train_dataloader = dict(
    batch_size=batch_size,
    sampler=dict(batch_size=batch_size),
    dataset=dict(quotas=[max_iters * batch_size], datasets=[dict(
        type="ClipDataset",
        layout="toytown",
        split="train",
        data_root="data/toytown/video",
        num_views=num_views,
        resolutions=[(112, 84)],
        crop_jitter=7,
        patch_size=14,
    )]),
)  # fmt: skip
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
        eta_min_ratio=0.02,
    ),
]
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=20))
