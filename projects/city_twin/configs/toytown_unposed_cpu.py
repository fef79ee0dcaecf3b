# The toy town from its pictures alone: poses by structure from motion, made metric by the
# positions that a drone's navigation would give (pip install -r requirements/mapping.txt).
_base_ = ["./toytown_cpu.py"]

work_dir = "work_dirs/city_twin/toytown_unposed_cpu"
stages = dict(
    images=dict(num_images=64, image_size=(480, 360)),  # features want overlap and size
    poses=dict(type="StructureFromMotion", position_noise=0.3),
)
