# Cambridge Landmarks, ShopFacade.
_base_ = ["./rap_colmap.py"]

data_root = "data/cambridge/ShopFacade"
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
        exclude_train=[35, 42],
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
        exclude_train=[35, 42],
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
        exclude_train=[35, 42],
    ),
)
custom_hooks = [
    dict(
        type="ViewSynthesisHook",
        map="work_dirs/maps/cambridge_shop/scene.ply",
        antialiased=True,
        refresh_every=20,
        perturber=dict(
            type="PosePerturber",
            translation=1.5,
            rotation=4.0,
            sampler="euler",
            frame="world_origin",
            d_max=1.0,
        ),
        quality=None,
    ),
    dict(type="EarlyStoppingHook", monitor="pose/median_trans", rule="less", patience=200),
]
