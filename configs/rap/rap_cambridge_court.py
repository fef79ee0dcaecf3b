# Cambridge Landmarks, GreatCourt, as an undistorted COLMAP scene.
_base_ = ["./rap_colmap.py"]

data_root = "data/cambridge/GreatCourt"
resize = dict(factor=2, interpolation="bilinear")
selection_every = 10  # of the training images, to choose among checkpoints
train_dataloader = dict(
    dataset=dict(data_root=data_root, selection_every=selection_every, resize=resize, train_skip=2)
)
test_dataloader = dict(batch_size=1, dataset=dict(data_root=data_root, resize=resize, train_skip=2))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root=data_root,
        selection_every=selection_every,
        split="selection",
        resize=resize,
        train_skip=2,
    ),
)
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/cambridge_court/scene.ply",
        antialiased=True,
        perturber=dict(translation=1.5, rotation=4.0, d_max=1.0),
    )
)
