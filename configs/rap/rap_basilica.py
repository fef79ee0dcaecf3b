# St. George's Basilica.
_base_ = ["./rap_colmap.py"]

data_root = "data/new_church"
resize = dict(factor=2, interpolation="bilinear")
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
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/basilica/scene.ply",
        antialiased=True,
        perturber=dict(translation=3.0, rotation=60.0, sampler="uniform_sphere", d_max=1.0),
    )
)
