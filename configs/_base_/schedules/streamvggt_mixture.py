# Data mixture and schedule of the StreamVGGT recipe.

data_root = "data/train"
num_views = 10  # frames per clip
max_epochs = 10  # of 39,000 clips, shared by the GPUs (4 of them published, with one clip each)
warmup_epochs = 0.5

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
train_cfg = dict(type="IterBasedTrainLoop", max_epochs=max_epochs)
optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=warmup_epochs,
        end=max_epochs,
        eta_min=1e-7,
        convert_to_iter_based=True,
    ),
]
# Ten frames of a few rooms after every epoch: whether depth and poses still hold.
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="arkitscenes",
        data_root=data_root,
        resize="principal_point",
        image_size=(392, 518),  # height, width
        max_frames=num_views,
        frame_stride=8,
        max_sequences=20,
    ),
)
val_evaluator = [
    dict(type="SequenceDepthMetric", suite="video", alignment="scale"),
    dict(type="RelativePoseMetric"),
]
val_cfg = dict(type="ValLoop")
find_unused_parameters = True  # the first pose token never gets a gradient
# The batch over all processes that the learning rate is for, as published: 4 GPUs x 1.
auto_scale_lr = dict(enable=False, base_batch_size=4)
