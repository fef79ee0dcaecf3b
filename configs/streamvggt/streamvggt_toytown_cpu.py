# A small StreamVGGT from scratch on videos of toy towns, on a CPU: first a bidirectional
# teacher from ground truth, then the causal student from the teacher. Both are measured on
# streets of another town, beside an untrained network and the averages of the training clips.
#   for town in 1 2 3 4 5 6 7 8 11 12 15; do
#     mmcity data toytown --out data/toytown_drives/town$town \
#         --formats video --size small --seed $town --image-size 112x84 \
#         --sequences 60 --frames 10 --paths surround --traffic 0.05 --supersampling 1
#   done
#   python tools/train.py configs/streamvggt/streamvggt_toytown_cpu.py
_base_ = ["../_base_/default_runtime.py"]

data_root = "data/toytown_drives"
train_towns = [f"town{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12)]
test_town = "town15"
min_travel = 1.0  # metres; a car that waits at a light has no direction of motion
min_distance = 2.0  # metres; sequences with a bush or a parked truck before the lens are left out
max_depth = 50.0  # metres; farther pixels neither teach nor count
teacher_iters = 2200  # training steps of the teacher
warmup_iters = 100  # of the teacher's
student_iters = 400  # training steps of the student
num_views = 4  # frames per clip
resolution = (64, 48)  # width and height of the images, multiples of the patch
patch_size = 8
batch_size = 5
lr = 1e-3

max_iters = teacher_iters + student_iters
dense_head = dict(
    features=24,
    out_channels=(24, 32, 48, 48),
    layers=(0, 1, 2, 3),
    frames_per_chunk=64,
    from_scratch=True,  # else the head sees where a pixel is long before what it shows
    detail_width=8,  # channels of convolutions on the picture, which sharpen outlines
)
sizes = dict(
    aggregator=dict(
        img_size=resolution[0],
        patch_size=patch_size,
        embed_dim=128,
        depth=4,
        num_heads=4,
        mlp_ratio=3.0,
        num_register_tokens=4,
        num_variants=num_views,  # tells the order of the frames, which a small model cannot see
        patch_embed="conv_stem",
        layer_scale=1.0,  # a small model from scratch learns faster with open branches
        token_std=1.0,  # and tells the first frame from the others at once
    ),
    camera_head=dict(
        trunk_depth=2,
        num_heads=4,
        mlp_ratio=2.0,
        layer_scale=1.0,
        num_iterations=1,
        start_pose=(0, 0, 0, 0, 0, 0, 1, 0.9, 1.2),  # no motion; fields of view in radians
    ),
    depth_head=dense_head,
    point_head=None,  # points come from depth and camera
    track_head=None,
)
teacher = dict(
    type="VGGT",
    loss=dict(
        type="GroundTruthLoss",
        camera_weight=5.0,
        relative_pose_weight=1.0,
        depth_weight=1.0,
        confidence_weight=0.02,  # at 0.1 what is easy already draws the learning to itself
        log_depth=True,  # near and far weigh alike, as in the relative error
        relative_share=0.5,
    ),
    **sizes,
)
student = dict(
    type="StreamVGGT",
    loss=dict(
        type="DistillationLoss",
        camera_weight=5.0,
        relative_pose_weight=1.0,
        depth_weight=1.0,
        confidence_weight=0.02,
        log_depth=True,
        relative_share=0.5,
        alignment="none",  # the published "batch" lets depth drift by a shift in small models
    ),
    **sizes,
)
model = dict(
    type="TeacherThenStudent",
    teacher=teacher,
    student=student,
    teacher_iters=teacher_iters,
    averages=dict(num_views=num_views, image_size=(resolution[1], resolution[0])),
)
stream = dict(policy="window(60)", image_size=resolution[0])

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type="MixtureSampler", batch_size=batch_size),
    dataset=dict(
        type="MixtureDataset",
        quotas=[max_iters * batch_size // len(train_towns) + 1] * len(train_towns),
        datasets=[
            dict(
                type="ClipDataset",
                layout="toytown",
                data_root=f"{data_root}/{town}/video",
                num_views=num_views,
                min_travel=min_travel,
                min_distance=min_distance,
                max_interval=3,
                max_depth=max_depth,
                resolutions=[resolution],
                crop_jitter=7,  # pixels
                color_jitter=False,  # the light is the same in all towns
                mirror_probability=0.0,  # the side of the traffic tells ahead from behind
                patch_size=patch_size,
            )
            for town in train_towns
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
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
        type="CosineRestartLR",
        by_epoch=False,
        begin=warmup_iters,
        periods=[teacher_iters - warmup_iters, student_iters],
        restart_weights=[1.0, 0.4],  # the student starts from trained weights
        eta_min_ratio=0.02,
    ),
]

find_unused_parameters = True  # of the one that does not learn at the time
default_hooks = dict(checkpoint=dict(interval=200))

test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="toytown",
        data_root=f"{data_root}/{test_town}/video",
        min_travel=min_travel,
        min_distance=min_distance,
        resize="principal_point",
        image_size=(resolution[1], resolution[0]),
        patch_size=patch_size,
        max_frames=num_views,
        frame_stride=3,
    ),
)
val_dataloader = test_dataloader
test_evaluator = [
    dict(type="SequenceDepthMetric", suite="video", alignment="scale", max_depth=max_depth),
    dict(type="RelativePoseMetric"),
]
val_evaluator = test_evaluator
val_cfg = dict(type="ComparisonValLoop")
test_cfg = dict(type="ComparisonTestLoop")
