_base_ = ["../../../configs/_base_/default_runtime.py"]

custom_imports = dict(imports=["toy_project"])

data_root = "toy_data"
model = dict(type="ToyScene")
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type="ToyLine"),
    sampler=dict(type="InfiniteSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(type="ToyLine", jitter=0.0),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ToyError")
test_evaluator = val_evaluator

train_cfg = dict(type="IterBasedTrainLoop", max_iters=20, val_interval=5)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=0.05))
param_scheduler = [dict(type="ExponentialLR", gamma=0.99, by_epoch=False)]
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(interval=4, save_best="toy/error", rule="less"),
    growth=dict(type="ToyGrowthHook", interval=3),
    trace=dict(type="ToyTraceHook"),
    stop=dict(type="ToyStopHook", at=-1, kill=False),
)
