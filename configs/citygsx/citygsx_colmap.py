# Any COLMAP scene on a GPU: 100 000 views. Depth priors are used where the scene has a folder
# `depths` or `depth` with inverse depth maps.
#   python tools/train.py configs/citygsx/citygsx_colmap.py --cfg-options data_root=DIR
_base_ = [
    "../_base_/models/citygsx.py",
    "../_base_/datasets/citygsx_scene.py",
    "../_base_/schedules/citygsx_100k.py",
]

resize = dict(_delete_=True, resolution=-1)  # as the research codes: at most 1600 px wide
model = dict(
    anchors=dict(default_voxel_size=None),  # None: the spacing of the sparse points
    objective=dict(multi_view_weight_from_iter=30000, dpt_end_iter=30000),
)
train_dataloader = dict(
    dataset=dict(split_by="auto", image_dir="auto", depth_dir="auto", resize=resize)
)
test_dataloader = dict(dataset=dict(split_by="auto", image_dir="auto", resize=resize))
val_dataloader = test_dataloader

default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=10000))
