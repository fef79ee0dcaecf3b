# 7-Scenes heads, poses of structure from motion (what papers report).
_base_ = ["./rap_7scenes_sfm_chess.py"]

data_root = "data/7scenes_sfm/heads"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(view_synthesis=dict(map="work_dirs/maps/7scenes_sfm_heads/scene.ply"))
