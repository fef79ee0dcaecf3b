# UrbanScene3D Sci-Art, with the settings of citygsx_building.py.
_base_ = ["./citygsx_building.py"]

data_root = "data/urbanscene3d/sciart"

# 0.02 fits four GPUs of 24 GB; 0.001 as for the other scenes needs more.
model = dict(anchors=dict(default_voxel_size=0.02))
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
