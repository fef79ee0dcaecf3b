# A small VAE on real 4D occupancy, for two CPU cores: five sequences train, 07 tests.
# The 128 x 128 x 8 grid is cropped to 64 x 64 x 8 about the car.
_base_ = [
    "../_base_/models/hexplane_vae.py",
    "../_base_/default_runtime.py",
]
data_root = "data/semantickitti_4d"
sequence_length = 4
crop = (64, 64, 8)
max_iters = 3000  # some 11 minutes of one core

model = dict(
    spatial_size=crop,
    sequence_length=sequence_length,
    # Latents of 1 x 32 x 32 x 4: 32 times fewer numbers than voxels.
    latent_channels=3,
    query_channels=96,
    down=(1, 1, 0),
    hex_down=(2, 0, 0, 1),
    separate_t_encoder=False,  # one voxel encoder serves all planes
    separate_t_reducer=False,  # time and height collapse at once
    # As for the toy towns: what makes a training of minutes learn.
    initial_logvar=-5.0,
    hadamard=False,
    readout="token",
    columns=128,
    kernel=1,
    norm=False,
    transformer_depth=1,
    transformer_heads=1,
    dropout=0.0,
    conv_hidden_low_res=16,
    conv_hidden_high_res=16,
    # counts of the unified classes in the five training sequences, cropped
    class_frequencies=[1373716, 14282, 13380, 0, 129, 1255, 73015, 55755, 41198, 60926, 4744, 0],
)
dataset = dict(
    type="SemanticKITTIOccSequence",
    data_root=data_root,
    grid_key="occ_128x128x8",
    sequence_length=sequence_length,
    crop=crop,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        random_crop=True,  # a few drives show more of the world than what lies about the car
        class_balance=0.5,  # every other crop holds something of a class drawn evenly
        scenes=["00", "01", "02", "03", "05"],
        pipeline=[
            dict(type="FlipXYT", prob=0.9),
            dict(type="PackOccInputs", with_target=False),
        ],
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(scenes=["07"], pipeline=[dict(type="PackOccInputs")], **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="OccIoU", num_classes=12)
test_evaluator = val_evaluator

train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=3e-3))
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.1, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
