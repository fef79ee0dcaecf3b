# MARS driving sequence 15; the scene is not metric.
_base_ = ["./rap_mars_11.py"]

data_root = "data/mars/15"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
unit_scale = 6.6005  # metres per scene unit
test_evaluator = dict(unit_scale=unit_scale)
val_evaluator = test_evaluator
default_hooks = dict(view_synthesis=dict(map="work_dirs/maps/mars_15/scene.ply"))
