# A small diffusion transformer on the rollouts of dynamiccity_vae_toytown_cpu.py:
#   python tools/export_rollouts.py configs/dynamiccity/dynamiccity_vae_toytown_cpu.py VAE \
#       --out data/rollout/toytown --splits train --flips 0 2 5 7
# Its test draws a clip for the conditions of each real one and compares the two sets.
_base_ = [
    "../_base_/models/hexplane_vae_toytown.py",
    "../_base_/models/hexplane_dit.py",
    "../_base_/datasets/hexplane_rollout.py",
    "../_base_/default_runtime.py",
]
data_root = "data/rollout/toytown"  # what the export wrote
occ_root = "data/toytown/carlasc/Cartesian"  # real clips
vae_checkpoint = "work_dirs/dynamiccity_vae_toytown_cpu/iter_9000.pth"
feature_checkpoint = "work_dirs/occ_feature_net_toytown_cpu/iter_400.pth"
txyz = (2, 16, 16, 4)  # latent sizes of the VAE
sequence_length = 4
conditions = ("hexplane", "command", "layout")
# Thresholds that can be seen in voxels: 0.05 rad (3 degrees) and 0.5 m within a clip.
command_options = dict(angle_threshold=0.05, forward_threshold=0.5, scale_thresholds=False)
predecessor_overlap = 2  # frames that a window shares with the one before
max_iters = 3500  # some 22 minutes of one core

model = dict(
    denoiser=dict(
        in_channels=8,
        txyz=txyz,
        sequence_length=sequence_length,
        patch_size=2,
        depth=6,
        hidden=128,
        heads=4,
        conditions=conditions,
        # Half of the samples learn to start a scene, half to go on with one.
        condition_dropout=dict(_delete_=True, hexplane=0.5),
    ),
    sampler=dict(type="DPMSolverSampler", spacing=50, order=2),
    guidance_scale=3.0,
    normalize="plane_channel",
    prediction="velocity",  # a small network need not carry the noise through
    start_limit=4.0,  # standard deviations
    predecessor_overlap=predecessor_overlap,
    vae=dict(init_cfg=dict(type="Pretrained", checkpoint=vae_checkpoint), **_base_.vae_model),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type="ClassBalancedDataset",  # turns are rare: they are repeated
        oversample_thr=0.55,
        dataset=dict(
            type="HexPlaneRollout",
            data_root=data_root + "/train",
            txyz=txyz,
            conditions=conditions,
            missing_predecessor="zeros",
            predecessor_overlap=predecessor_overlap,
            **command_options,
        ),
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.05, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=5e-5),
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=max_iters),
    latent_statistics=dict(type="LatentStatisticsHook"),
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=4e-3),
)

clips = dict(type="CarlaSCOccSequence", sequence_length=sequence_length, crop=(32, 32, 8))
test_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        data_root=occ_root,
        split="Test",
        shuffle_dataset=True,
        data_length=64,
        pipeline=[
            dict(type="MakeCommand", **command_options),
            dict(type="MakeLayout"),
            dict(type="PackOccInputs", conditions=("command", "layout")),
        ],
        **clips,
    ),
)
# Other real clips: how far sets of real clips are apart from town to town.
reference = dict(
    data_root=occ_root,
    split="Val",
    shuffle_dataset=True,
    data_length=64,
    pipeline=[dict(type="PackOccInputs")],
    **clips,
)
test_evaluator = [
    dict(
        type="OccGenMetric3D",
        extractor=dict(
            type="OccNetFeatures",
            model=dict(type="OccFeatureNet", channels=(16, 32, 64, 64)),
            checkpoint=feature_checkpoint,
        ),
        reference=reference,
    ),
    dict(
        type="OccGenMetric2D",
        # InceptionV3, and VGG-16 as pr_extractor=..., where their TorchScript files are at hand:
        # dict(type="ScriptedImageFeatures", path="inception-2015-12-05.pt", size=299, ...)
        extractor=dict(type="RandomImageFeatures", dim=64),
        reference=reference,
    ),
    dict(type="TemporalConsistency", voxel_size=0.4, frame_time=0.1),
    dict(
        type="ConditionFidelity",
        conditions=("command", "layout"),
        command_options=command_options,
    ),
]
test_cfg = dict()
