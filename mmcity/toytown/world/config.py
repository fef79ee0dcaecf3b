"""Settings of a toy town: every number a user may turn, in one frozen dataclass."""

from dataclasses import asdict, dataclass, fields

from mmcity.utils.checks import check_choice

#: Blocks along x and y of each preset size.
SIZES = {"tiny": (2, 2), "small": (3, 3), "medium": (6, 6)}
LIGHTINGS = ("day", "overcast", "evening")


@dataclass(frozen=True)
class ToytownConfig:
    """Settings of one toy town; equal settings give equal bytes.

    Args:
        seed: World seed, fixes the static city. Defaults to 0.
        size: Preset extent, ``'tiny'``, ``'small'`` or ``'medium'``. Writers take their
            image counts from it, too. Defaults to 'tiny'.
        blocks: Number of blocks along x and y; None takes the preset of ``size``.
        sequence_seed: Fixes the traffic and the paths of the sensors. Defaults to 0.
        traffic: Density of moving vehicles and people, 1 is a normal day. Defaults to 1.
        clutter: Density of furniture, trees and parked vehicles. Defaults to 1.
        lighting: ``'day'`` (sun and hard shadows), ``'overcast'`` or ``'evening'``.
        sun_azimuth: Direction towards the sun, degrees from east to north. Defaults to 215.
        sun_elevation: Degrees above the horizon; None takes what ``lighting`` says.
        haze_range: Metres after which haze hides 63 % of the scene. Defaults to 1500.
        supersampling: Rays per pixel on edges: 1, 4 or 16. Textures are band limited, so
            pixels without an edge take one ray. Defaults to 4.

    Raises:
        ValueError: If a value is outside its range; names the argument.
    """

    seed: int = 0
    size: str = "tiny"
    blocks: tuple[int, int] | None = None
    sequence_seed: int = 0
    traffic: float = 1.0
    clutter: float = 1.0
    lighting: str = "day"
    sun_azimuth: float = 215.0
    sun_elevation: float | None = None
    haze_range: float = 1500.0
    supersampling: int = 4

    def __post_init__(self) -> None:
        check_choice("size", self.size, SIZES)
        check_choice("lighting", self.lighting, LIGHTINGS)
        check_choice("supersampling", self.supersampling, (1, 4, 16))
        for name in ("seed", "sequence_seed", "traffic", "clutter"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if self.haze_range <= 0:
            raise ValueError(f"haze_range: expected a positive number, got {self.haze_range}")
        if self.blocks is not None:
            blocks = tuple(int(n) for n in self.blocks)
            if len(blocks) != 2 or min(blocks) < 1:
                raise ValueError(f"blocks: expected two positive integers, got {self.blocks}")
            object.__setattr__(self, "blocks", blocks)

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks along x and y."""
        return self.blocks or SIZES[self.size]

    def to_dict(self) -> dict:
        """Plain values, as they go into ``toytown.json``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "ToytownConfig":
        """Inverse of :meth:`to_dict`; unknown keys raise a ValueError that names them."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"ToytownConfig: expected its keys only, got {sorted(unknown)}")
        return cls(**values)
