# GaussTR on a toy town in minutes on two CPU cores: stored feature maps, six small images.
#
#   mmcity data toytown --out data/toytown --formats nuscenes \
#       --size small --scenes 8 --frames 5 --image-size 200x112 --feature-patch 4 --no-sweeps
#   mmcity data nuscenes data/toytown/nuscenes \
#       --version v1.0-mini
#   python tools/train.py configs/gausstr/gausstr_toytown_cpu.py
_base_ = [
    "../_base_/models/gausstr.py",
    "../_base_/datasets/nuscenes_occ.py",
    "../_base_/default_runtime.py",
]
from importlib.util import find_spec  # noqa: E402 - mmengine wants _base_ first

# In mmdet3d's scope where mmdet3d is installed (`mim train mmdet3d CONFIG`), else in our own.
_has_mmdet3d = all(find_spec(name) is not None for name in ("mmcv", "mmdet", "mmdet3d"))
default_scope = "mmdet3d" if _has_mmdet3d else "mmcity"
custom_imports = dict(imports=["mmcity.compat.mmdet3d"] if _has_mmdet3d else [])
del _has_mmdet3d
data_root = "data/toytown/nuscenes/"
input_size = (112, 200)  # height, width of the images
embed_dims = 64
feat_dims = 64  # channels of the toy town's feature maps
reduce_dims = 21  # channels that are rendered: the span of the 21 prompts
num_queries = 512  # Gaussians per camera; a power of two spreads evenly (sobol)
iterations = 1200

model = dict(
    num_queries=num_queries,
    embed_dims=embed_dims,
    neck=dict(in_channels=feat_dims, out_channels=embed_dims, scales=(0, 1)),
    decoder=dict(
        num_layers=1,  # each layer is rendered: the cost of a step grows with them
        layer_cfg=dict(
            embed_dims=embed_dims,
            self_attn_heads=4,
            cross_attn_heads=4,
            num_points=2,
            ffn_channels=192,
            num_levels=2,
            cross_attn_dropout=0.0,
        ),
    ),
    gauss_head=dict(
        # A Gaussian starts at its reference point, opaque, and as large as the distance to
        # the next one: wide, flat and long, as the ground needs it.
        opacity_head=dict(input_dim=embed_dims, initial_output=0.85),
        feature_head=dict(input_dim=embed_dims, output_dim=feat_dims),
        # An eighth of the published 1..16 on 1600 x 900 is 0.125..2; here thin and long ones too.
        scale_head=dict(input_dim=embed_dims, range=(0.0, 8.0), initial_output=(0.6, 0.15, 1.6)),
        regress_head=dict(input_dim=embed_dims, initial_output=0.0),
        reduce_dims=reduce_dims,
        image_shape=input_size,
        patch_size=4,
        sky="opacity",
        sampled_features=True,  # the feature head corrects the feature at a Gaussian's pixel
        loss_weights=dict(cosine=20.0),
        volume_loss=dict(weight=4.0, gain=2.3),  # half occupied at a density of 0.3
        text_protos=data_root + "features/prototypes.npz",
        vocabulary=dict(density_threshold=0.3),
    ),
    reference_init="sobol",  # the same points always, so that each query gets to know its place
    test_reference_init="sobol",
    pca="prototypes",
)
load = dict(type="BEVLoadMultiViewImageFromFiles", to_float32=True, num_views=6)
augment = dict(type="ImageAug3D", final_dim=input_size, resize_lim=1.0)
maps = [
    dict(type="LoadFeatMaps", data_root=data_root + "depth", key="depth", apply_aug=True),
    dict(type="LoadFeatMaps", data_root=data_root + "features", key="feats"),
]
keys = ["cam2img", "cam2ego", "img_aug_mat", "depth", "feats"]
train_pipeline = [
    load,
    augment,
    *maps,
    dict(type="PackMultiViewInputs", keys=keys, with_target=False),
]
test_pipeline = [
    load,
    dict(type="LoadOccFromFile"),
    augment,
    *maps,
    dict(type="PackMultiViewInputs", keys=keys),
]
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

# The table also shows a predictor that knows the training labels but no image.
val_evaluator = dict(constant_from=dict(data_root=data_root, ann_file="nuscenes_infos_train.pkl"))
test_evaluator = val_evaluator

# By its full name, since mmdet3d's scope knows mmengine's loop, which resumes with other batches.
train_cfg = dict(type="mmcity.IterBasedTrainLoop", max_iters=iterations, val_interval=600)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=5e-3),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=iterations, eta_min=2e-5),
]
default_hooks = dict(
    checkpoint=dict(interval=600),
    logger=dict(interval=20),
    stage_timer=dict(type="PerStageTimerHook"),
)
