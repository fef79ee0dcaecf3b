# UrbanScene3D Residence, with the settings of citygsx_building.py.
_base_ = ["./citygsx_building.py"]

data_root = "data/urbanscene3d/residence"

train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
