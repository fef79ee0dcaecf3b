# A narrow pose network that trains on two CPU cores. Refinement makes up for its precision.
_base_ = ["./rap_colmap.py"]

epochs = 60
size = (96, 128)  # height and width that the network sees
model = dict(
    network=dict(
        backbone=dict(width=0.25, drop_connect=0.0),
        hidden_dim=64,
        num_heads=4,
        feedforward_dim=64,
        num_encoder_layers=2,
        dropout=0.0,
        freeze_batch_norm=False,  # the backbone starts from random weights
        guarded_rotation=True,
    ),
    data_preprocessor=dict(type="LocalizationPreprocessor", size=size),
)
resize = dict(_delete_=True, long_side=256, interpolation="bilinear")
train_dataloader = dict(dataset=dict(resize=resize))
test_dataloader = dict(dataset=dict(resize=resize))
val_dataloader = test_dataloader
optim_wrapper = dict(network=dict(optimizer=dict(lr=1e-3)))
train_cfg = dict(max_epochs=epochs, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20))
custom_hooks = [
    dict(
        type="ViewSynthesisHook",
        map="work_dirs/3dgs_colmap_cpu/scene.ply",
        refresh_every=20,
        perturber=dict(
            type="PosePerturber", translation=0.3, rotation=8.0, frame="camera", d_max=0.3
        ),
    )
]
