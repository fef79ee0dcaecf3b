# Data mixture and schedule of the StreamVGGT recipe.

data_root = "data/train"
num_views = 10  # frames per clip
clips_per_epoch = 39000
max_epochs = 10
iters_per_epoch = clips_per_epoch // 4  # 4 GPUs with one clip each

# (width, height) and how often; one per batch.
resolutions = [
    (518, 392), (518, 336), (518, 294), (518, 266), (518, 210),
    (518, 154), (392, 518), (336, 518), (294, 518), (266, 518),
]  # fmt: skip
resolution_weights = [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
layouts = [
    "co3d", "wildrgbd", "arkitscenes", "arkitscenes_highres", "scannetpp", "scannet", "hypersim",
    "blendedmvs", "megadepth", "waymo", "vkitti", "omniobject3d", "spring", "mvs_synth",
    "point_odyssey",
]  # fmt: skip

train_dataloader = dict(
    batch_size=1,
    num_workers=8,
    sampler=dict(type="MixtureSampler", batch_size=1, probabilities=resolution_weights),
    dataset=dict(
        type="MixtureDataset",
        datasets=[
            dict(
                type="ClipDataset",
                layout=layout,
                data_root=data_root,
                num_views=num_views,
                resolutions=resolutions,
                mask_probability=0.1,  # of hiding what lies around an object
            )
            for layout in layouts
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_epochs * iters_per_epoch)
optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=iters_per_epoch // 2),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=iters_per_epoch // 2,
        end=max_epochs * iters_per_epoch,
        eta_min=1e-7,
    ),
]
find_unused_parameters = True  # the first pose token never gets a gradient
