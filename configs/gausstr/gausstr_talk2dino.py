# GaussTR on DINOv2 ViT-B/14 with registers (Talk2DINO text prototypes).
_base_ = [
    "../_base_/models/gausstr.py",
    "../_base_/datasets/nuscenes_occ.py",
    "../_base_/schedules/gausstr_24e.py",
    "../_base_/default_runtime.py",
]
from importlib.util import find_spec  # noqa: E402 - mmengine wants _base_ first

# In mmdet3d's scope where mmdet3d is installed (`mim train mmdet3d CONFIG`), else in our own.
_has_mmdet3d = all(find_spec(name) is not None for name in ("mmcv", "mmdet", "mmdet3d"))
default_scope = "mmdet3d" if _has_mmdet3d else "mmcity"
custom_imports = dict(imports=["mmcity.compat.mmdet3d"] if _has_mmdet3d else [])
del _has_mmdet3d
resize = 0.56  # 900 x 1600 to 504 x 896
depth_root = "data/nuscenes_metric3d"

model = dict(
    backbone=dict(
        type="DinoVisionTransformer",
        img_size=518,
        patch_size=14,
        embed_dim=768,
        depth=12,
        num_heads=12,
        num_register_tokens=4,
        out_type="map",
        frozen=True,
        # `mmcity weights get dinov2_vitb14_reg4` fetches it; a path or URL does too
        init_cfg=dict(type="Pretrained", checkpoint="dinov2_vitb14_reg4"),
    ),
    neck=dict(in_channels=768),
    gauss_head=dict(
        feature_head=dict(output_dim=768),
        text_protos="ckpts/text_proto_embeds_talk2dino.pth",  # tools/build_text_protos.py
        image_shape=(504, 896),
        patch_size=14,
        voxelizer=dict(filter_gaussians=True, opacity_thresh=0.6, covariance_thresh=1.5e-2),
    ),
)
load = dict(type="BEVLoadMultiViewImageFromFiles", to_float32=True, num_views=6)
depth = dict(type="LoadFeatMaps", data_root=depth_root, key="depth", apply_aug=True)
train_pipeline = [
    load,
    dict(type="ImageAug3D", final_dim=(504, 896), resize_lim=resize, is_train=True),
    depth,
    dict(type="PackMultiViewInputs", with_target=False),
]
test_pipeline = [
    load,
    dict(type="LoadOccFromFile"),
    dict(type="ImageAug3D", final_dim=(504, 896), resize_lim=resize),
    depth,
    dict(type="PackMultiViewInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    checkpoint=dict(interval=1, by_epoch=True, save_best="miou", rule="greater", max_keep_ckpts=3),
    stage_timer=dict(type="PerStageTimerHook"),
)
log_processor = dict(by_epoch=True)
