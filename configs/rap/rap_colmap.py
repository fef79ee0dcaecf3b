# RAPNet on any COLMAP scene. First reconstruct the map, for example by
#   python tools/train.py configs/gaussian_splatting/3dgs_colmap.py
_base_ = [
    "../_base_/models/rapnet.py",
    "../_base_/datasets/colmap_localization.py",
    "../_base_/schedules/rap_2000e.py",
]

log_processor = dict(type="LogProcessor", window_size=10, by_epoch=True)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=10, by_epoch=True, save_best="pose/median_trans", rule="less"),
)
