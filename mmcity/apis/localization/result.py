"""Result of localising one query."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mmcity.structures import Cameras, Sim3
from mmcity.structures.geometry import se3_from_rt


@dataclass
class LocalizationResult:
    """Pose of one query and how far to trust it.

    Attributes:
        name (str): Of the query.
        camera (Cameras | None): One camera at the estimate, with the query's intrinsics; None
            if there is not even a guess.
        status (str): ``ok``, ``low_confidence`` or ``failed``. A failed query keeps its first
            guess in ``camera``.
        confidence (float): In [0, 1].
        reason (str): Why not ``ok``.
        source (str): What the estimate started from: ``regression`` or ``mapped:NAME``.
        regressed (Cameras | None): What the pose network said, before refinement.
        covariance (np.ndarray | None): ``(6, 6)``, see
            :class:`~mmcity.models.rap.refinement.PnPSolution`.
        details (dict): Inliers, residuals and deviations of the refinement.
        seconds (dict): Wall time of ``regression`` and ``refinement``.
        alignment (Sim3 | None): From the mapped files to the frame of ``aligned_cam_to_world``.
        offset (np.ndarray): ``(3,)`` float64, coordinates of the mapped files less those of
            ``camera`` and ``regressed``, which are single precision.
    """

    name: str
    camera: Cameras | None = None
    status: str = "failed"
    confidence: float = 0.0
    reason: str = ""
    source: str = ""
    regressed: Cameras | None = None
    covariance: np.ndarray | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    alignment: Sim3 | None = None
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def aligned_cam_to_world(self) -> np.ndarray | None:
        """``(4, 4)`` float64 pose in the frame of the alignment; None without one."""
        if self.camera is None or self.alignment is None:
            return None
        pose = torch.from_numpy(self.pose_of(self.camera))
        similarity = self.alignment.to("cpu", torch.float64)
        turned = similarity.rotation @ pose[:3, :3]
        center = similarity.scale * similarity.rotation @ pose[:3, 3] + similarity.translation
        return se3_from_rt(turned, center).numpy()

    @property
    def cam_to_world(self) -> np.ndarray | None:
        """``(4, 4)`` float64 pose of the camera in the coordinates of the mapped files."""
        return None if self.camera is None else self.pose_of(self.camera)

    def pose_of(self, camera: Cameras) -> np.ndarray:
        """``(4, 4)`` float64 pose of one camera in the coordinates of the mapped files."""
        pose = camera.cam_to_world[0].double().cpu().numpy()
        pose[:3, 3] += self.offset
        return pose
