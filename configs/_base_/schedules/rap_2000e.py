# Two optimisers, plateau schedule and random view synthesis as published.
_base_ = ["../default_runtime.py"]

epochs = 2000
optim_wrapper = dict(
    constructor="MultiOptimWrapperConstructor",
    # With train_weights=True of the pose loss: modules=["network", "objective"].
    network=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4)),
    discriminator=dict(
        type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4, betas=(0.5, 0.999))
    ),
)
param_scheduler = [
    dict(
        type="ReduceOnPlateauLR",
        monitor="pose/mse_pose",
        factor=0.95,
        patience=50,  # validations without improvement
        by_epoch=True,
    )
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
map_path = "work_dirs/map/scene.ply"  # Gaussians of the scene: a .ply, or a checkpoint
default_hooks = dict(
    view_synthesis=dict(
        type="ViewSynthesisHook",
        map=map_path,
        map_config=None,  # config of a map that is a checkpoint
        refresh_every=20,  # epochs between two synthesised sets
        perturber=dict(
            type="PosePerturber",
            translation=0.2,  # scene units
            rotation=10.0,  # degrees
            sampler="euler",  # xz for driving; uniform or uniform_sphere
            frame="world_origin",  # as published; "camera" leaves the centre where it is
            d_max=0.2,  # how far new centres may leave the box of the training centres
        ),
        # quality=dict(type="BRISQUE") rejects bad renders; needs requirements/localization.txt
        quality_threshold=50.0,
        max_attempts=100,
        executor="inline",  # "thread" renders the next set while training goes on
    ),
    early_stopping=dict(
        type="EarlyStoppingHook", monitor="pose/median_trans", rule="less", patience=200
    ),
)
