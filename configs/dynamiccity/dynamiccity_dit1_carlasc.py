# DiT-DC/1: 18 blocks of width 768, 194,536,832 parameters without conditions.
_base_ = ["./dynamiccity_dit_carlasc.py"]

model = dict(denoiser=dict(depth=18, hidden=768, heads=12))
