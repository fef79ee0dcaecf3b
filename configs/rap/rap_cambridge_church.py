# Cambridge Landmarks, StMarysChurch.
_base_ = ["./rap_cambridge_college.py"]

data_root = "data/cambridge/StMarysChurch"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
custom_hooks = _base_.custom_hooks
custom_hooks[0].map = "work_dirs/maps/cambridge_church/scene.ply"
custom_hooks[0].quality = dict(type="BRISQUE")
