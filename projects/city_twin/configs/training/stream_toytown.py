# The small streaming network on surveys of other toy towns: trained on exact geometry without
# a teacher, which such a short schedule could not use.
_base_ = ["../../../../configs/_base_/default_runtime.py"]

data_root = "data/toytown_surveys"  # folders of views, train.txt and val.txt

max_iters = 1000
warmup_iters = 100
batch_size = 2
num_views = 4  # frames per clip
resolution = (112, 84)  # width and height of the images, multiples of the patch
patch_size = 14
dense_head = dict(features=24, out_channels=(24, 32, 48, 48), layers=(1, 2, 3, 4))

model = dict(
    type="StreamVGGT",
    aggregator=dict(
        img_size=resolution[0],
        patch_size=patch_size,
        embed_dim=128,
        depth=5,
        num_heads=4,
        mlp_ratio=3.0,
        num_register_tokens=4,
        patch_embed="conv",
        layer_scale=1.0,
    ),
    camera_head=dict(trunk_depth=2, num_heads=4, mlp_ratio=2.0, layer_scale=1.0),
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
    num_workers=0,
    sampler=dict(type="MixtureSampler", batch_size=batch_size),
    dataset=dict(
        type="MixtureDataset",
        quotas=[max_iters * batch_size],
        datasets=[
            dict(
                type="ClipDataset",
                layout="toytown",
                split="train",
                data_root=data_root,
                num_views=num_views,
                max_interval=3,
                resolutions=[resolution],
                crop_jitter=7,  # pixels
                color_jitter=False,
                patch_size=patch_size,
            )
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="toytown",
        split="val",
        data_root=data_root,
        resize="principal_point",
        image_size=(resolution[1], resolution[0]),
        patch_size=patch_size,
        max_frames=2 * num_views,
    ),
)
val_evaluator = [
    dict(type="SequenceDepthMetric", suite="video", alignment="scale"),
    dict(type="RelativePoseMetric"),
]
val_cfg = dict()
test_dataloader, test_evaluator, test_cfg = val_dataloader, val_evaluator, val_cfg
stream = dict(policy="window(60)", image_size=resolution[0])
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={"camera_head": dict(lr_mult=0.3)},  # runs away at the full rate
    ),
    clip_grad=dict(max_norm=1.0),
)
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
