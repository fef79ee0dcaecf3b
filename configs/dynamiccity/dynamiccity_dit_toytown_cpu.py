# A small diffusion transformer on the rollouts of dynamiccity_vae_toytown_cpu.py:
#   python tools/export_rollouts.py configs/dynamiccity/dynamiccity_vae_toytown_cpu.py CHECKPOINT \
#       --out data/rollout/toytown
_base_ = ["./dynamiccity_dit_carlasc.py"]
data_root = "data/rollout/toytown"
txyz = (4, 32, 32, 4)
conditions = ("command", "layout")

model = dict(
    denoiser=dict(
        in_channels=8,
        txyz=txyz,
        sequence_length=8,
        depth=6,
        hidden=192,
        heads=6,
        conditions=conditions,
    ),
    sampler=dict(_delete_=True, type="DPMSolverSampler", spacing=50, order=2),
    normalize="none",
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root + "/train", txyz=txyz, conditions=conditions),
)
train_cfg = dict(max_iters=2000)
optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="AdamW", lr=5e-4))
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=2e-3),
]
default_hooks = dict(checkpoint=dict(interval=500))
