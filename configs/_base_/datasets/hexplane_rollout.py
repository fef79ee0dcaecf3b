# Rollouts that tools/export_rollouts.py wrote.
data_root = "data/rollout/carlasc/dynamiccity_vae_carlasc"

train_dataloader = dict(
    batch_size=16,  # per process; the paper trained 8 x 16
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="HexPlaneRollout",
        data_root=data_root + "/Train",
        conditions=(),  # as the model's
        txyz=(8, 64, 64, 4),
        trajectory_frame="ego",  # "world" is what published checkpoints were trained with
        angle_threshold=0.0025,  # radians of heading change that make a turn
        forward_threshold=0.03,  # metres that make a motion
        scale_thresholds=False,
    ),
)
