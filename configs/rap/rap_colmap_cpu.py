# A narrow pose network that trains on two CPU cores in minutes, for any COLMAP scene with
# list_test.txt. Refinement makes up for its precision.
_base_ = ["./rap_colmap.py"]

epochs = 100
size = (60, 80)  # height and width that the network sees
data_root = "data/scene"
map_path = "work_dirs/rap_map_colmap_cpu/iter_3000.pth"
map_config = "configs/rap/rap_map_colmap_cpu.py"
model = dict(
    network=dict(
        backbone=dict(width=0.25, drop_connect=0.0),
        pretrained=None,  # there are no weights of so narrow a one
        hidden_dim=64,
        num_heads=4,
        feedforward_dim=64,
        num_encoder_layers=2,
        dropout=0.0,
        freeze_batch_norm=False,  # which would be those of random weights
        guarded_rotation=True,
        adaptation_channels=(16, 32),
    ),
    discriminator=dict(in_channels=32),
    objective=dict(
        # Fixed weights of position (scene units) and rotation (norm of the matrix difference).
        pose=dict(learnable=False, s_x=4.0, s_q=10.0),
        feature=dict(type="FeatureMSELoss"),
        weights=(1.0, 0.02, 1.0, 0.02),  # pose, feature, perturbed pose, generator
    ),
    normalize_poses=True,
    channels_last=True,
    data_preprocessor=dict(
        type="LocalizationPreprocessor",
        size=size,
        statistics="image",
        normalize_focal=False,  # True: photographs of several cameras, each seen as one of them
    ),
)
resize = dict(_delete_=True, long_side=80, interpolation="bilinear")
train_dataloader = dict(
    batch_size=4, dataset=dict(selection_every=0, data_root=data_root, resize=resize)
)
test_dataloader = dict(batch_size=32, dataset=dict(data_root=data_root, resize=resize))
# The last weights are taken: nothing is chosen, and all mapped images may train.
val_dataloader = dict(
    batch_size=32,
    dataset=dict(split="test", selection_every=0, data_root=data_root, resize=resize),
)
optim_wrapper = dict(
    network=dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=5.0)),
    discriminator=dict(optimizer=dict(lr=4e-4)),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=epochs, eta_min_ratio=0.01, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(
    checkpoint=dict(interval=epochs, save_best=None),
    pose_frame=dict(type="PoseFrameHook"),
    view_synthesis=dict(
        map=map_path,
        map_config=map_config,
        refresh_every=4,
        views_per_image=6,
        perturber=dict(translation=0.5, rotation=20.0, frame="camera", d_max=0.5),
    ),
    early_stopping=None,  # the last weights are taken
)
