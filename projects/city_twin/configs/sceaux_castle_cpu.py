# Eleven photographs of a facade: the stages that need no trained weights, on two CPU cores.
_base_ = ["./caliterra_aerial_cpu.py"]

work_dir = "work_dirs/city_twin/sceaux_castle_cpu"
stages = dict(
    images=dict(path="$MMCITY_DATA/sceaux_castle", images="images"),
    # units of the capture, whose y axis points down
    mesh=dict(voxel_size=0.05, max_depth=20.0, neighbour_distance=4.0),
    baked=dict(up="-y"),
    occupancy=dict(voxel_size=0.1, up="-y"),
)
