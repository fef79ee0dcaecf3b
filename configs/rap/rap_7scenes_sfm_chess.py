# 7-Scenes chess, poses of structure from motion (what papers report).
_base_ = ["./rap_colmap.py"]

data_root = "data/7scenes_sfm/chess"
resize = dict(factor=2, interpolation="bilinear")
selection_every = 10  # of the training images, to choose among checkpoints
train_dataloader = dict(
    dataset=dict(data_root=data_root, selection_every=selection_every, resize=resize, train_skip=5)
)
test_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, resize=resize, train_skip=5))
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        selection_every=selection_every,
        split="selection",
        resize=resize,
        train_skip=5,
    ),
)
default_hooks = dict(
    view_synthesis=dict(
        map="work_dirs/maps/7scenes_sfm_chess/scene.ply",
        antialiased=True,
    )
)
