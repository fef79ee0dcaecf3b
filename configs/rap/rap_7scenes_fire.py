# 7-Scenes fire, poses of its depth SLAM.
_base_ = ["./rap_7scenes_chess.py"]

data_root = "data/7scenes/fire"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(view_synthesis=dict(map="work_dirs/maps/7scenes_fire/scene.ply"))
