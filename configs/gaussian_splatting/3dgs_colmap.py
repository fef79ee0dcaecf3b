# Any COLMAP scene on a GPU: 30 000 iterations as published.
#   python tools/train.py configs/gaussian_splatting/3dgs_colmap.py --cfg-options data_root=DIR
_base_ = [
    "../_base_/models/gaussian_splatting.py",
    "../_base_/datasets/colmap_scene.py",
    "../_base_/schedules/gaussian_splatting_30k.py",
]

default_hooks = dict(
    logger=dict(interval=100),  # iterations between log lines
    checkpoint=dict(interval=5000),  # iterations between checkpoints
)
