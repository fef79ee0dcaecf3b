# The HexPlane VAE to train.
_base_ = ["./hexplane_vae_full.py"]
model = dict(**_base_.vae_model)
