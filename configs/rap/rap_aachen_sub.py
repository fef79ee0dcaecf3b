# Subset of Aachen Day-Night; the scene is not metric.
_base_ = ["./rap_colmap.py"]

data_root = "data/aachen_sub"
resize = dict(_delete_=True, target_width=360, interpolation="bilinear")
selection_every = 10  # of the training images, to choose among checkpoints
train_dataloader = dict(
    dataset=dict(data_root=data_root, selection_every=selection_every, resize=resize)
)
test_dataloader = dict(batch_size=1, dataset=dict(data_root=data_root, resize=resize))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root=data_root, selection_every=selection_every, split="selection", resize=resize
    ),
)
test_evaluator = dict(metric=False)
val_evaluator = test_evaluator
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/aachen_sub/scene.ply",
        antialiased=True,
        perturber=dict(translation=1.5, rotation=4.0, d_max=1.0),
    )
)
