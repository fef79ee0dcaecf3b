# A real drone flight: the stages that need no trained weights, on two CPU cores.
work_dir = "work_dirs/city_twin/caliterra_aerial_cpu"
seed = 0

stages = dict(
    images=dict(type="FolderImages", path="$MMCITY_DATA/caliterra_aerial", images="train/rgbs"),
    poses=dict(type="GivenPoses"),
    reconstruction=dict(type="Reconstruct", config="configs/citygsx/citygsx_colmap_cpu.py"),
    # metres; what one photograph alone sees is left out
    mesh=dict(type="ExtractMesh", voxel_size=0.4, max_depth=100.0, neighbour_distance=60.0),
    baked=dict(type="BakeScene", up="z"),
    localization=dict(type="LocaliseQueries"),
    occupancy=dict(type="OccupancyFromGaussians", voxel_size=0.5),
    tour=dict(type="RenderTour"),
)
