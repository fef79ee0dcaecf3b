"""Fuse rendered depth of the training views of a scene into a mesh.

The suffix of --out chooses the format (ply, obj, glb). With --truth the F1 score of the
vertices within --threshold (default: 2 voxels) is printed. --region-size bounds memory: the
volume holds one cube of the world at a time, and renders wait on disk. Several processes
(torchrun) share out views and cubes.
"""

from mmcity.cli.options import command

EXAMPLE = (
    "mmcity mesh configs/citygsx/citygsx_toytown_cpu.py work_dirs/town/iter_1000.pth --out mesh.ply"
)


def _show(mesh, _):
    if mesh is None:  # another process writes it
        return
    print(
        f"{mesh.path}: {mesh.vertices} vertices, {mesh.triangles} triangles of voxels of "
        f"{mesh.voxel_size:.3g}, {mesh.voxel_bytes / 1e6:.0f} MB of voxels at a time"
    )
    if mesh.scores:
        print(", ".join(f"{name} {value:.3f}" for name, value in mesh.scores.items()))


add_arguments, run = command(
    "mmcity.apis.scenes.extract_mesh:extract_mesh", "config checkpoint", _show
)
