# DiT-DC/2 on the rollouts of dynamiccity_vae_waymo.py.
_base_ = [
    "../_base_/models/hexplane_vae_full.py",  # decodes what is generated
    "../_base_/models/hexplane_dit.py",
    "../_base_/datasets/hexplane_rollout.py",
    "../_base_/schedules/hexplane_dit_300k.py",
]
data_root = "data/rollout/waymo/dynamiccity_vae_waymo"
txyz = (8, 100, 100, 8)

vae_model = dict(spatial_size=(200, 200, 16), class_frequencies=None)
model = dict(denoiser=dict(txyz=txyz))
train_dataloader = dict(dataset=dict(data_root=data_root + "/train", txyz=txyz))
default_hooks = dict(checkpoint=dict(interval=10000))
