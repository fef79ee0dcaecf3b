# Cambridge Landmarks, StMarysChurch.
_base_ = ["./rap_cambridge_college.py"]

data_root = "data/cambridge/StMarysChurch"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/cambridge_church/scene.ply", quality=dict(type="BRISQUE")
    )
)
