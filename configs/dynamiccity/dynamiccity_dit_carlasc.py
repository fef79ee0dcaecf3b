# DiT-DC/2 on the rollouts of dynamiccity_vae_carlasc.py.
_base_ = [
    "../_base_/models/hexplane_vae_full.py",  # decodes what is generated
    "../_base_/models/hexplane_dit.py",
    "../_base_/datasets/hexplane_rollout.py",
    "../_base_/schedules/hexplane_dit_300k.py",
]
data_root = "data/rollout/carlasc/dynamiccity_vae_carlasc"
txyz = (8, 64, 64, 4)

model = dict(denoiser=dict(txyz=txyz))
train_dataloader = dict(dataset=dict(data_root=data_root + "/train", txyz=txyz))
default_hooks = dict(checkpoint=dict(interval=10000))
