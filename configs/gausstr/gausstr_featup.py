# GaussTR on stored FeatUp features (CLIP text prototypes).
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
resize = 0.48  # 900 x 1600 to 432 x 768
depth_root = "data/nuscenes_metric3d"
feats_root = "data/nuscenes_featup"
seg_root = "data/nuscenes_grounded_sam2"

model = dict(
    gauss_head=dict(
        text_protos="ckpts/text_proto_embeds_clip.pth",  # tools/build_text_protos.py
        segment_head=dict(type="MLP", input_dim=128, output_dim=26),
    ),
)
load = dict(type="BEVLoadMultiViewImageFromFiles", to_float32=True, num_views=6)
depth = dict(type="LoadFeatMaps", data_root=depth_root, key="depth", apply_aug=True)
feats = dict(type="LoadFeatMaps", data_root=feats_root, key="feats")
matrices = ["cam2img", "cam2ego", "img_aug_mat", "depth", "feats"]
train_pipeline = [
    load,
    dict(type="ImageAug3D", final_dim=(432, 768), resize_lim=resize, is_train=True),
    depth,
    feats,
    dict(type="LoadFeatMaps", data_root=seg_root, key="sem_seg", apply_aug=True),
    dict(type="PackMultiViewInputs", keys=[*matrices, "sem_seg"], with_target=False),
]
test_pipeline = [
    load,
    dict(type="LoadOccFromFile"),
    dict(type="ImageAug3D", final_dim=(432, 768), resize_lim=resize),
    depth,
    feats,
    dict(type="PackMultiViewInputs", keys=matrices),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    checkpoint=dict(interval=1, by_epoch=True, save_best="miou", rule="greater", max_keep_ckpts=3),
    stage_timer=dict(type="PerStageTimerHook"),
)
log_processor = dict(by_epoch=True)
