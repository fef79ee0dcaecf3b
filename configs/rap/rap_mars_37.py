# MARS driving sequence 37; the scene is not metric.
_base_ = ["./rap_mars_11.py"]

data_root = "data/mars/37"
resize = dict(factor=4, interpolation="bilinear")
train_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
test_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
val_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
unit_scale = 7.68605  # metres per scene unit
test_evaluator = dict(unit_scale=unit_scale)
val_evaluator = test_evaluator
default_hooks = dict(view_synthesis=dict(map="work_dirs/maps/mars_37/scene.ply"))
