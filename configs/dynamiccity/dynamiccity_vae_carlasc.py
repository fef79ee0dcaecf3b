_base_ = [
    "../_base_/models/hexplane_vae.py",
    "../_base_/datasets/carlasc_occ.py",
    "../_base_/schedules/hexplane_vae_100e.py",
    "../_base_/default_runtime.py",
]
default_hooks = dict(
    checkpoint=dict(interval=4016, save_best="occ/mIoU", rule="greater"),
)
