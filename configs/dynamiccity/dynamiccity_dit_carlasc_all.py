# DiT-DC/2 with every condition and cross-attention, 53,533,249 parameters.
_base_ = ["./dynamiccity_dit_carlasc.py"]
conditions = ("hexplane", "layout", "trajectory", "command")

model = dict(denoiser=dict(conditions=conditions, cross_attention=True))
train_dataloader = dict(dataset=dict(conditions=conditions))
