# MARS driving sequence 11; the scene is not metric.
_base_ = ["./rap_colmap.py"]

data_root = "data/mars/11"
resize = dict(factor=2, interpolation="bilinear")
selection_every = 10  # of the training images, to choose among checkpoints
train_dataloader = dict(
    dataset=dict(data_root=data_root, selection_every=selection_every, resize=resize)
)
test_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, resize=resize))
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root, selection_every=selection_every, split="selection", resize=resize
    ),
)
unit_scale = 7.2162  # metres per scene unit
test_evaluator = dict(unit_scale=unit_scale)
val_evaluator = test_evaluator
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/mars_11/scene.ply",
        antialiased=True,
        perturber=dict(translation=0.1, rotation=1.0, sampler="xz", d_max=1.0),
        quality=dict(type="BRISQUE"),
    )
)
