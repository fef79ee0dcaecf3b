# 7-Scenes chess, poses of its depth SLAM.
_base_ = ["./rap_colmap.py"]

data_root = "data/7scenes/chess"
resize = dict(factor=2, interpolation="bilinear")
selection_every = 10  # of the training images, to choose among checkpoints
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="SevenScenes",
        data_root=data_root,
        split="train",
        selection_every=selection_every,
        resize=resize,
        train_skip=5,
    )
)
test_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type="SevenScenes",
        data_root=data_root,
        split="test",
        resize=resize,
        train_skip=5,
    ),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type="SevenScenes",
        data_root=data_root,
        split="selection",
        selection_every=selection_every,
        resize=resize,
        train_skip=5,
    ),
)
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/7scenes_chess/scene.ply",
        antialiased=True,
    )
)
