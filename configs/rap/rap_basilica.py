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
custom_hooks = [
    dict(
        type="ViewSynthesisHook",
        map="work_dirs/maps/basilica/scene.ply",
        antialiased=True,
        refresh_every=20,
        perturber=dict(
            type="PosePerturber",
            translation=3.0,
            rotation=60.0,
            sampler="uniform_sphere",
            frame="world_origin",
            d_max=1.0,
        ),
        quality=None,
    ),
    dict(type="EarlyStoppingHook", monitor="pose/median_trans", rule="less", patience=200),
]
