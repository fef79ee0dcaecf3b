# A toy town from its drone survey to map, localiser, occupancy and futures, on two CPU cores.
# Everything is made here, also the small networks; each hand-over is checked against the
# exact town.
#   python projects/city_twin/run.py projects/city_twin/configs/toytown_cpu.py
work_dir = "work_dirs/city_twin/toytown_cpu"
seed = 0
_configs = "projects/city_twin/configs/training"

stages = dict(
    images=dict(
        type="ToytownImages",
        seed=7,
        blocks=(1, 1),
        num_images=40,
        image_size=(320, 240),
        num_points=4000,
    ),
    stream_model=dict(
        type="StreamModel", config=f"{_configs}/stream_toytown.py", towns=8, num_images=24
    ),
    geometry=dict(type="StreamingGeometry", max_points=20_000),
    # The survey's own poses. From the pictures alone: dict(type="StructureFromMotion")
    # (requirements/mapping.txt; configs/toytown_unposed_cpu.py), or dict(type="StreamedPoses")
    # with those of the geometry stage, for a network that was trained for longer.
    poses=dict(type="GivenPoses"),
    reconstruction=dict(
        type="Reconstruct", config=f"{_configs}/citygsx_toytown.py", priors="streaming"
    ),
    # What one picture alone sees is left out: views within 60 m have to agree.
    mesh=dict(type="ExtractMesh", voxel_size=0.5, neighbour_distance=60.0),
    baked=dict(type="BakeScene", max_per_cell=10_000),
    pose_network=dict(type="PoseNetwork", config=f"{_configs}/rap_toytown.py"),
    localization=dict(type="LocaliseQueries"),
    occupancy=dict(type="OccupancyFromGaussians", voxel_size=0.4),
    future_model=dict(
        type="FutureModel",
        vae_config=f"{_configs}/vae_toytown.py",
        config=f"{_configs}/dit_toytown.py",
        towns=4,
        frames=40,
    ),
    future=dict(type="OccupancyFuture", shape=(32, 32, 8), frames=4, windows=4),
    tour=dict(type="RenderTour"),
)
