# Cambridge Landmarks, KingsCollege.
_base_ = ["./rap_colmap.py"]

data_root = "data/cambridge/KingsCollege"
resize = dict(factor=2, interpolation="bilinear")
selection_every = 10  # of the training images, to choose among checkpoints
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="CambridgeLandmarks",
        data_root=data_root,
        split="train",
        selection_every=selection_every,
        resize=resize,
        train_skip=2,
    )
)
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _delete_=True,
        type="CambridgeLandmarks",
        data_root=data_root,
        split="test",
        resize=resize,
        train_skip=2,
    ),
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _delete_=True,
        type="CambridgeLandmarks",
        data_root=data_root,
        split="selection",
        selection_every=selection_every,
        resize=resize,
        train_skip=2,
    ),
)
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/cambridge_college/scene.ply",
        antialiased=True,
        perturber=dict(translation=1.5, rotation=4.0, d_max=1.0),
    )
)
