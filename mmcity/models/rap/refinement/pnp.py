"""Camera pose from pixels and points with outliers, and how certain it is."""

from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np
import torch

from mmcity.structures.geometry import se3_exp
from mmcity.utils.checks import check_choice
from mmcity.utils.dependencies import import_library

_MIN_MATCHES = 5
_LM_STEPS = 20


class PnPError(ValueError):
    """No pose explains enough of the matches."""


@dataclass
class PnPSolution:
    """Pose with its support.

    Attributes:
        viewmat (np.ndarray): ``(4, 4)`` world to camera.
        inliers (np.ndarray): ``(M,)`` bool.
        covariance (np.ndarray): ``(6, 6)`` of a motion (translation, rotation in radians) that
            follows the pose, in camera axes.
        rms (float): Root mean square reprojection error of the inliers in px, per coordinate.
    """

    viewmat: np.ndarray
    inliers: np.ndarray
    covariance: np.ndarray
    rms: float

    @property
    def sigma_translation(self) -> float:
        """Standard deviation of the camera's centre, scene units."""
        return float(np.sqrt(np.trace(self.covariance[:3, :3])))

    @property
    def sigma_rotation(self) -> float:
        """Standard deviation of the rotation in degrees."""
        return float(np.degrees(np.sqrt(np.trace(self.covariance[3:, 3:]))))


def _residuals(viewmat: np.ndarray, points: np.ndarray, pixels: np.ndarray, K: np.ndarray):
    """Residuals ``(M, 2)`` in px, depths ``(M,)`` and points in camera axes."""
    local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = np.where(np.abs(local[:, 2]) < 1e-12, 1e-12, local[:, 2])
    flat = local / depth[:, None]
    return flat @ K[:2].T - pixels, local[:, 2], local


def _jacobian(local: np.ndarray, K: np.ndarray) -> np.ndarray:
    """``(M, 2, 6)``: pixels by a motion (translation, rotation) after the pose."""
    x, y, z = local.T
    zero = np.zeros_like(x)
    du = np.stack([K[0, 0] / z, K[0, 1] / z, -(K[0, 0] * x + K[0, 1] * y) / z**2], -1)
    dv = np.stack([zero, K[1, 1] / z, -K[1, 1] * y / z**2], -1)
    by_point = np.stack([du, dv], 1)  # (M, 2, 3)
    minus_skew = np.stack(
        [np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1), np.stack([y, -x, zero], -1)], 1
    )
    return np.concatenate([by_point, by_point @ minus_skew], -1)


def _polish(viewmat, points, pixels, K) -> np.ndarray:
    """Levenberg-Marquardt on the reprojection error."""
    damping, cost = 1e-4, np.inf
    residual, _, local = _residuals(viewmat, points, pixels, K)
    cost = float((residual**2).sum())
    for _ in range(_LM_STEPS):
        jacobian = _jacobian(local, K).reshape(-1, 6)
        normal = jacobian.T @ jacobian
        step = -np.linalg.solve(
            normal + damping * np.diag(np.diag(normal)), jacobian.T @ residual.ravel()
        )
        trial = se3_exp(torch.from_numpy(step)).numpy() @ viewmat
        new_residual, depth, new_local = _residuals(trial, points, pixels, K)
        new_cost = float((new_residual**2).sum())
        if new_cost < cost and (depth > 0).all():
            small = cost - new_cost < 1e-9 * cost
            viewmat, residual, local, cost = trial, new_residual, new_local, new_cost
            damping = max(damping / 10, 1e-12)
            if small:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return viewmat


def _package(name: str) -> ModuleType:
    hint = f"pip install {name}, or take 'opencv'"
    return import_library(name, f"backend='{name}'", hint)


def _opencv_ransac(points, pixels, K, threshold, iterations, confidence, seed):
    cv2.setRNGSeed(seed)
    found, rotation, translation, rows = cv2.solvePnPRansac(
        np.ascontiguousarray(points),
        np.ascontiguousarray(pixels),
        K,
        None,
        iterationsCount=iterations,
        reprojectionError=threshold,
        confidence=confidence,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or rows is None:
        return None
    return np.column_stack([cv2.Rodrigues(rotation)[0], translation])


def _poselib_ransac(points, pixels, K, threshold, iterations, confidence, seed):
    poselib = _package("poselib")
    camera = {"model": "PINHOLE", "width": int(2 * K[0, 2]), "height": int(2 * K[1, 2])}
    camera["params"] = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    options = {
        "max_reproj_error": threshold,
        "max_iterations": iterations,
        "success_prob": confidence,
        "seed": seed,
    }
    pose, info = poselib.estimate_absolute_pose(pixels, points, camera, options, {})
    return np.array(pose.Rt) if info["num_inliers"] else None


def _pycolmap_ransac(points, pixels, K, threshold, iterations, confidence, seed):
    pycolmap = _package("pycolmap")
    camera = pycolmap.Camera(
        model="PINHOLE",
        width=int(2 * K[0, 2]),
        height=int(2 * K[1, 2]),
        params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]],
    )
    options = pycolmap.AbsolutePoseEstimationOptions()
    ransac = options.ransac
    ransac.max_error, ransac.confidence, ransac.random_seed = threshold, confidence, seed
    ransac.min_inlier_ratio = 0.01
    ransac.min_num_trials, ransac.max_num_trials = min(1000, iterations), iterations
    found = pycolmap.estimate_and_refine_absolute_pose(pixels, points, camera, options)
    return None if found is None else found["cam_from_world"].matrix()


#: What gives the first pose and tells right matches from wrong ones, by name.
_BACKENDS = {"opencv": _opencv_ransac, "poselib": _poselib_ransac, "pycolmap": _pycolmap_ransac}


def solve_pnp(
    points: np.ndarray,
    pixels: np.ndarray,
    K: np.ndarray,
    distortion: np.ndarray | None = None,
    threshold: float = 2.0,
    iterations: int = 10_000,
    confidence: float = 0.9999,
    backend: str = "opencv",
    seed: int = 0,
) -> PnPSolution:
    """Pose from correspondences by RANSAC, polished on its inliers.

    Args:
        points (np.ndarray): ``(M, 3)`` in the world.
        pixels (np.ndarray): ``(M, 2)``, centres at +0.5.
        K (np.ndarray): ``(3, 3)``.
        distortion (np.ndarray, optional): OpenCV's k1, k2, p1, p2, ... of the pixels.
        threshold (float): Reprojection error of an inlier in px. Defaults to 2.
        iterations (int): At most. Defaults to 10000.
        confidence (float): At which RANSAC stops early. Defaults to 0.9999.
        backend (str): ``opencv`` (SQPnP), ``poselib`` or ``pycolmap``. Defaults to ``opencv``.
        seed (int): Defaults to 0.

    Raises:
        PnPError: If there are fewer than five matches, or no pose has five inliers.
    """
    points, pixels, K = (np.asarray(a, dtype=np.float64) for a in (points, pixels, K))
    if len(points) < _MIN_MATCHES:
        raise PnPError(f"{len(points)} matches, expected at least {_MIN_MATCHES}")
    if distortion is not None and np.any(distortion):
        flat = cv2.undistortPoints(pixels[:, None], K, np.asarray(distortion), None, None, K)
        pixels = flat[:, 0]
    check_choice("backend", backend, _BACKENDS)
    pose = _BACKENDS[backend](points, pixels, K, threshold, iterations, confidence, seed)
    if pose is None:
        raise PnPError("RANSAC found no pose")
    viewmat = np.concatenate([pose, [[0, 0, 0, 1]]])
    inliers = np.zeros(len(points), bool)
    for _ in range(3):
        residual, depth, _ = _residuals(viewmat, points, pixels, K)
        now = (np.linalg.norm(residual, axis=1) < threshold) & (depth > 0)
        if now.sum() < _MIN_MATCHES:
            raise PnPError(f"{int(now.sum())} inliers of {len(points)} matches")
        if (now == inliers).all():
            break
        inliers = now
        viewmat = _polish(viewmat, points[inliers], pixels[inliers], K)
    residual, _, local = _residuals(viewmat, points[inliers], pixels[inliers], K)
    freedom = max(2 * int(inliers.sum()) - 6, 1)
    variance = max(float((residual**2).sum()) / freedom, 1e-12)
    jacobian = _jacobian(local, K).reshape(-1, 6)
    covariance = variance * np.linalg.pinv(jacobian.T @ jacobian)
    return PnPSolution(viewmat, inliers, covariance, float(np.sqrt((residual**2).mean())))
