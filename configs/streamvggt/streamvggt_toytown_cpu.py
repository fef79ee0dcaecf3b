# A small StreamVGGT from scratch on videos of the toy town, on a CPU: first a bidirectional
# teacher from ground truth, then the causal student from the teacher.
#   python tools/dataset_converters/create_toytown.py \
#       --out data/toytown --formats video --size small
#   python tools/train.py configs/streamvggt/streamvggt_toytown_cpu.py
_base_ = ["../_base_/default_runtime.py"]

data_root = "data/toytown/video"
teacher_iters = 1600  # training steps of the teacher
warmup_iters = 100  # of the teacher's
student_iters = 600  # training steps of the student
num_views = 6  # frames per clip
resolution = (112, 84)  # width and height of the images, multiples of the patch
patch_size = 14
batch_size = 2
lr = 5e-4

max_iters = teacher_iters + student_iters
dense_head = dict(features=32, out_channels=(32, 48, 64, 64), layers=(1, 2, 3, 4))
sizes = dict(
    aggregator=dict(
        img_size=112,
        patch_size=patch_size,
        embed_dim=128,
        depth=5,
        num_heads=4,
        mlp_ratio=3.0,
        num_register_tokens=4,
        patch_embed="conv",
        layer_scale=0.3,  # a small model from scratch learns faster with open branches
    ),
    camera_head=dict(trunk_depth=2, num_heads=4, mlp_ratio=2.0, layer_scale=0.3),
    depth_head=dense_head,
    point_head=dense_head,
    track_head=None,
)
teacher = dict(
    type="VGGT",
    loss=dict(
        type="GroundTruthLoss",
        camera_weight=5.0,
        depth_weight=1.0,
        points_weight=1.0,
        confidence_weight=0.1,
        log_depth=True,  # near and far weigh alike, as in the relative error
    ),
    **sizes,
)
student = dict(
    type="StreamVGGT",
    loss=dict(
        type="DistillationLoss",
        camera_weight=5.0,
        depth_weight=1.0,
        points_weight=1.0,
        log_depth=True,
        alignment="none",  # the published "batch" lets depth drift by a shift in small models
        normal_weight=0.1,
    ),
    **sizes,
)
model = dict(
    type="TeacherThenStudent", teacher=teacher, student=student, teacher_iters=teacher_iters
)
stream = dict(policy="window(60)", image_size=resolution[0])

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
                resolutions=[resolution],
                crop_jitter=7,  # pixels
                patch_size=patch_size,
            )
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
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

test_dataloader = dict(
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
        max_frames=20,
    ),
)
val_dataloader = test_dataloader
test_evaluator = [
    dict(type="SequenceDepthMetric", suite="video", alignment="scale", max_depth=80),
    dict(type="RelativePoseMetric"),
    dict(type="TrajectoryMetric"),
]
val_evaluator = test_evaluator
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
