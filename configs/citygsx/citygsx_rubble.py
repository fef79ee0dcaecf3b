# Mill-19 Rubble, with the settings of citygsx_building.py.
_base_ = ["./citygsx_building.py"]

data_root = "data/mill19/rubble"

train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
