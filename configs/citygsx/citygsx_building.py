# Mill-19 Building: 100 000 views at a quarter of the pictures' size, as published for all
# scenes of Mill-19 and UrbanScene3D.
_base_ = [
    "../_base_/models/citygsx.py",
    "../_base_/datasets/citygsx_scene.py",
    "../_base_/schedules/citygsx_100k.py",
]

data_root = "data/mill19/building"

model = dict(
    anchors=dict(default_voxel_size=0.001),
    objective=dict(
        single_view_weight_from_iter=10000,
        depth_l1_weight_init=0.5,
        depth_l1_weight_final=0.01,
        dpt_loss_from_iter=10000,
        dpt_end_iter=30000,
        scale_loss_from_iter=0,
        multi_view_weight_from_iter=30000,
        multi_view_patch_size=3,
    ),
)
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader

default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=10000))
