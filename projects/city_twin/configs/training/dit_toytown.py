# The small diffusion model of street clips, shorter and without conditions: the twin continues
# a clip by holding its last frames.
_base_ = ["../../../../configs/dynamiccity/dynamiccity_dit_toytown_cpu.py"]

conditions = ()
model = dict(denoiser=dict(conditions=conditions))
train_dataloader = dict(dataset=dict(conditions=conditions))
train_cfg = dict(max_iters=600)
default_hooks = dict(checkpoint=dict(interval=100))
