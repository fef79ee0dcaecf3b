# Cambridge Landmarks, OldHospital.
_base_ = ["./rap_cambridge_college.py"]

data_root = "data/cambridge/OldHospital"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(view_synthesis=dict(map="work_dirs/maps/cambridge_hospital/scene.ply"))
