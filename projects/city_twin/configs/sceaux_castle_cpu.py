# Eleven photographs of a facade: the stages that need no trained weights, on two CPU cores.
_base_ = ["./caliterra_aerial_cpu.py"]

work_dir = "work_dirs/city_twin/sceaux_castle_cpu"
stages = dict(
    images=dict(path="$MMCITY_DATA/sceaux_castle", images="images"),
)
