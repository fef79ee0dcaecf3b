"""Pedestrians: a torso with a head and four limbs that swing with the walk."""

import numpy as np

from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder, SurfaceMesh, icosphere
from mmcity.toytown.world.taxonomy import WorldClass

#: Length, width, height in metres of the box of a walking pedestrian.
PEDESTRIAN_SIZE = (0.98, 0.66, 1.78)
_HIP, _SHOULDER = 0.9, 1.39
#: Joint (y, z), swing amplitude in radians and phase of each limb: legs, then arms.
_LIMBS = (
    (0.1, _HIP, 0.34, 0.0),
    (-0.1, _HIP, 0.34, np.pi),
    (0.215, _SHOULDER, 0.36, np.pi),
    (-0.215, _SHOULDER, 0.36, 0.0),
)
_SKIN = [(0.5, 0.32, 0.23), (0.36, 0.2, 0.13), (0.2, 0.11, 0.07), (0.55, 0.37, 0.28)]


def make_pedestrian(rng: np.random.Generator, instance: int) -> list[SurfaceMesh]:
    """Meshes of a pedestrian: torso with head, two legs, two arms.

    Each limb hangs from the origin of its own frame, so that a rotation about y swings it.
    """
    seed = int(rng.integers(1 << 31))
    top = tuple(rng.uniform(0.03, 0.6, 3))
    trousers = tuple(np.array([0.05, 0.06, 0.1]) * rng.uniform(0.5, 3.5, 3))
    skin, hair = _SKIN[rng.integers(4)], tuple(np.array([0.08, 0.05, 0.03]) * rng.uniform(0.3, 4))
    cls = WorldClass.PEDESTRIAN
    sphere, faces = icosphere(2)

    def row(builder: MeshBuilder, material: Material, color: tuple) -> int:
        return builder.surface(material, cls, instance, color, axis_v=(0, 0, 1), seed=seed)

    torso = MeshBuilder()
    cloth = row(torso, Material.CLOTH, top)
    torso.cylinder([0, 0, _HIP - 0.06], [0, 0, 1.2], (0.16, 0.19), 10, cloth)
    torso.cylinder([0, 0, 1.2], [0, 0, 1.4], (0.19, 0.185), 10, cloth)
    torso.cylinder([0, 0, 1.4], [0, 0, 1.47], (0.185, 0.08), 10, cloth)
    head = row(torso, Material.PLAIN, skin)
    torso.cylinder([0, 0, 1.44], [0.01, 0, 1.56], (0.06, 0.06), 8, head)
    torso.triangles(sphere * [0.1, 0.085, 0.125] + [0.02, 0, 1.62], faces, head, sphere)
    cap = row(torso, Material.PLAIN, hair)
    torso.triangles(sphere * [0.105, 0.1, 0.1] + [-0.015, 0, 1.655], faces, cap, sphere)
    if rng.random() < 0.4:
        bag = {"instance": instance, "color": tuple(rng.uniform(0.03, 0.4, 3)), "seed": seed}
        torso.box((-0.2, 0, 1.2), (0.16, 0.3, 0.42), Material.CLOTH, cls, **bag)
    meshes = [torso.build()]
    for k in range(4):
        limb = MeshBuilder()
        if k < 2:
            cloth = row(limb, Material.CLOTH, trousers)
            limb.cylinder([0, 0, 0.04], [0, 0, -0.82], (0.1, 0.065), 8, cloth)
            shoe = {"instance": instance, "color": (0.05, 0.045, 0.04), "seed": seed}
            limb.box((0.06, 0, -0.86), (0.26, 0.1, 0.08), Material.PLAIN, cls, **shoe)
        else:
            cloth, hand = row(limb, Material.CLOTH, top), row(limb, Material.PLAIN, skin)
            limb.cylinder([0, 0, 0.02], [0.02, 0, -0.55], (0.065, 0.045), 6, cloth)
            limb.triangles(sphere * 0.06 + [0.03, 0, -0.6], faces, hand, sphere)
        meshes.append(limb.build())
    return meshes


def limb_pose(part: int, phase: float, stride: float, scale: float = 1.0) -> np.ndarray:
    """Pose (4, 4) of a part in the frame of the person (x forward, feet on z = 0).

    Args:
        part: 0 is the torso, 1-4 are legs and arms.
        phase: Phase of the walk in radians.
        stride: 0 stands, 1 walks.
        scale: Size relative to PEDESTRIAN_SIZE; the parts are scaled when they are made.
    """
    pose = np.eye(4)
    if part == 0:
        pose[2, 3] = 0.015 * stride * np.cos(2 * phase) * scale
        return pose
    y, z, amplitude, shift = _LIMBS[part - 1]
    angle = amplitude * stride * np.sin(phase + shift)
    c, s = np.cos(angle), np.sin(angle)
    pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    pose[:3, 3] = [0, y * scale, z * scale]
    return pose
