"""Stand-ins of foundation models' maps: features with a known relation to classes, labels.

Each world class has a fixed direction in feature space. A cell's feature is the mean over its
pixels of the directions of their classes, of which some are taken for another class, plus a
part that follows the colour and noise. Prompts are means of the directions of their classes,
so that the dot product of a feature and its prompt is large.
"""

from collections.abc import Sequence

import numpy as np

from mmcity.toytown.world.taxonomy import WorldClass, label_map

_C = WorldClass

#: Prompts in the words of Occ3D's classes: (word, label, world classes).
TOYTOWN_VOCABULARY: tuple[tuple[str, int, tuple[WorldClass, ...]], ...] = (
    ("other", 0, (_C.OTHER,)),
    ("barrier", 1, (_C.BARRIER,)),
    ("bicycle", 2, (_C.BICYCLE, _C.BICYCLIST)),
    ("bus", 3, (_C.BUS,)),
    ("car", 4, (_C.CAR,)),
    ("construction vehicle", 5, (_C.CONSTRUCTION_VEHICLE,)),
    ("motorcycle", 6, (_C.MOTORCYCLE, _C.MOTORCYCLIST)),
    ("person", 7, (_C.PEDESTRIAN,)),
    ("cone", 8, (_C.TRAFFIC_CONE,)),
    ("trailer", 9, (_C.TRAILER,)),
    ("truck", 10, (_C.TRUCK,)),
    ("road", 11, (_C.ROAD, _C.ROAD_LINE)),
    ("other flat", 12, (_C.OTHER_FLAT,)),
    ("sidewalk", 13, (_C.SIDEWALK,)),
    ("terrain", 14, (_C.TERRAIN,)),
    ("building", 15, (_C.BUILDING,)),
    ("fence", 15, (_C.FENCE,)),
    ("pole", 15, (_C.POLE,)),
    ("sign", 15, (_C.TRAFFIC_SIGN, _C.TRAFFIC_LIGHT)),
    ("vegetation", 16, (_C.VEGETATION, _C.TRUNK)),
    ("sky", 17, (_C.SKY,)),
)

#: Length of a prompt; features are about 1 long, so this is the contrast of the softmax.
_PROMPT_LENGTH = 12.0
_COLOR_SHARE, _NOISE = 0.25, 0.05


def class_directions(channels: int) -> np.ndarray:
    """Unit directions of the world classes, (26, channels) float32; close kinds lie close."""
    rng = np.random.Generator(np.random.PCG64(2718))
    raw = rng.standard_normal((len(WorldClass), channels))
    for _, _, members in TOYTOWN_VOCABULARY:
        raw[list(members)] = 0.3 * raw[list(members)] + 0.95 * raw[members[0]]
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def prompt_prototypes(channels: int) -> np.ndarray:
    """One column per prompt of :data:`TOYTOWN_VOCABULARY`, (channels, P) float32."""
    directions = class_directions(channels)
    columns = [directions[list(members)].mean(0) for _, _, members in TOYTOWN_VOCABULARY]
    stacked = np.stack(columns, axis=1)
    return _PROMPT_LENGTH * stacked / np.linalg.norm(stacked, axis=0)


def feature_map(
    cls: np.ndarray,
    rgb: np.ndarray,
    patch: int,
    channels: int,
    mistakes: float = 0.05,
    seed: Sequence[int] = (0,),
) -> np.ndarray:
    """Features of an image.

    Args:
        cls: (H, W) uint8 world classes.
        rgb: (H, W, 3) uint8.
        patch: Pixels per cell; H and W are multiples of it.
        channels: Width C of the features.
        mistakes: Share of cells that look like a random class. Defaults to 0.05.
        seed: Of the mistakes and the noise. Defaults to (0,).

    Returns:
        np.ndarray: (C, H / patch, W / patch) float16.

    Raises:
        ValueError: If the patch does not divide the image.
    """
    height, width = cls.shape
    if height % patch or width % patch:
        raise ValueError(f"image: expected multiples of the patch {patch}, got {height} x {width}")
    h, w = height // patch, width // patch
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(seed))))
    cells = cls.reshape(h, patch, w, patch).transpose(0, 2, 1, 3).reshape(h * w, -1)
    wrong = rng.random(len(cells)) < mistakes
    cells = np.where(wrong[:, None], rng.integers(len(WorldClass), size=(len(cells), 1)), cells)
    shares = np.zeros((len(cells), len(WorldClass)), dtype=np.float32)
    rows = np.repeat(np.arange(len(cells)), cells.shape[1])
    np.add.at(shares, (rows, cells.ravel()), 1 / cells.shape[1])
    color = rgb.reshape(h, patch, w, patch, 3).mean((1, 3)).reshape(-1, 3) / 255 - 0.5
    axes = np.random.Generator(np.random.PCG64(3141)).standard_normal((3, channels))
    features = shares @ class_directions(channels)
    features += _COLOR_SHARE * color @ (axes / np.linalg.norm(axes, axis=1, keepdims=True))
    features += _NOISE * rng.standard_normal(features.shape)
    return features.T.reshape(channels, h, w).astype(np.float16)


def segmentation_map(cls: np.ndarray) -> np.ndarray:
    """Occ3D labels 1..16 of an image's classes, 17 for the sky, 0 for what has no word."""
    labels = label_map("occ3d_nuscenes")[cls]
    return np.where(cls == WorldClass.SKY, 17, labels).astype(np.uint8)
