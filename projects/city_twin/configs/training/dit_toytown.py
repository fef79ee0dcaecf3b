# The small diffusion model of street clips, shorter and without conditions: the twin continues
# a clip by holding its last frames.
_base_ = ["../../../../configs/dynamiccity/dynamiccity_dit_toytown_cpu.py"]
