"""Moving agents: tracks, boxes, poses of their parts."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.sensors.renderer import Body
from mmcity.toytown.world.meshes import SurfaceMesh
from mmcity.toytown.world.people import PEDESTRIAN_SIZE, limb_pose
from mmcity.toytown.world.taxonomy import WorldClass

#: Seconds between two steps of the simulation.
STEP = 0.1


@dataclass
class AgentState:
    """Box of an agent at one moment, world frame.

    Attributes:
        id: Instance id.
        cls: World class of the agent.
        kind: Key of VEHICLE_KINDS, or 'pedestrian'.
        center: (3,) metres.
        size: Length, width, height.
        yaw: Radians from east to north.
        velocity: (2,) metres per second.
    """

    id: int
    cls: WorldClass
    kind: str
    center: np.ndarray
    size: tuple[float, float, float]
    yaw: float
    velocity: np.ndarray


@dataclass
class Agent:
    """A moving agent with its whole track.

    Attributes:
        id: Instance id, continues after those of the static city.
        cls: World class.
        kind: Key of VEHICLE_KINDS, or 'pedestrian'.
        size: Length, width, height in metres.
        parts: Meshes; vehicles have one, pedestrians five.
        track: (T, 5) x, y, z, yaw (unwrapped), walked distance; every 0.1 s.
        is_ego: Carries the sensors, and is invisible to them.
    """

    id: int
    cls: WorldClass
    kind: str
    size: tuple[float, float, float]
    parts: list[SurfaceMesh]
    track: np.ndarray
    is_ego: bool = False

    def _state(self, time: float) -> np.ndarray:
        step = np.clip(time / STEP, 0, len(self.track) - 1)
        k = min(int(step), len(self.track) - 2)
        return self.track[k] + (step - k) * (self.track[k + 1] - self.track[k])

    def pose(self, time: float) -> np.ndarray:
        """Agent-to-world (4, 4): x forward, feet or wheels on z = 0; clamped to the track."""
        x, y, z, yaw, _ = self._state(time)
        c, s = np.cos(yaw), np.sin(yaw)
        return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])

    def part_poses(self, time: float) -> list[np.ndarray]:
        """Part-to-world (4, 4) of each mesh."""
        base = self.pose(time)
        if len(self.parts) == 1:
            return [base]
        walked = self._state(time)[4]
        speed = float(np.linalg.norm(self.velocity(time)))
        stride, scale = min(speed / 1.2, 1.0), self.size[2] / PEDESTRIAN_SIZE[2]
        return [base @ limb_pose(k, walked * 4.3, stride, scale) for k in range(len(self.parts))]

    def velocity(self, time: float) -> np.ndarray:
        """(2,) metres per second, central difference over 0.2 s."""
        last = (len(self.track) - 1) * STEP
        a, b = max(time - STEP, 0.0), min(time + STEP, last)
        if b <= a:
            return np.zeros(2)
        return (self._state(b)[:2] - self._state(a)[:2]) / (b - a)

    def state(self, time: float) -> AgentState:
        """Box and velocity at a time."""
        x, y, z, yaw, _ = self._state(time)
        center = np.array([x, y, z + self.size[2] / 2])
        wrapped = float((yaw + np.pi) % (2 * np.pi) - np.pi)
        return AgentState(
            self.id, self.cls, self.kind, center, self.size, wrapped, self.velocity(time)
        )


@dataclass
class Traffic:
    """All agents of a sequence; ``ego`` is among them, or None."""

    agents: list[Agent]
    duration: float
    ego: Agent | None = None

    def states(self, time: float, include_ego: bool = False) -> list[AgentState]:
        """Boxes of the agents at a time."""
        return [a.state(time) for a in self.agents if include_ego or not a.is_ego]

    def bodies(self, time: float, next_time: float | None = None) -> list[Body]:
        """Rigid parts for the renderer; the ego vehicle is left out."""
        after = time if next_time is None else next_time
        return [
            Body(mesh, pose, later)
            for agent in self.agents
            if not agent.is_ego
            for mesh, pose, later in zip(
                agent.parts, agent.part_poses(time), agent.part_poses(after)
            )
        ]
