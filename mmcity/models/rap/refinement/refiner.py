"""Refinement of a camera pose by rendering the map there and matching."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmcity.registry import TASK_UTILS
from mmcity.structures import Cameras
from mmcity.structures.geometry import rotation_angle

from .pnp import PnPError, PnPSolution, solve_pnp

#: Inliers at which the support of a pose counts as about two thirds.
_INLIER_SCALE = 30.0
_MIN_CORRELATION_PIXELS = 100


@dataclass
class Refinement:
    """Refined pose of a query, with its quality.

    Attributes:
        camera (Cameras): One camera at the estimate (at the best start if ``failed``).
        status (str): ``ok``, ``low_confidence`` or ``failed``.
        confidence (float): In [0, 1]; 0 if failed.
        reason (str): Why not ``ok``; empty otherwise.
        covariance (np.ndarray | None): See :class:`PnPSolution`.
        sigma_translation (float): Scene units; infinite if failed.
        sigma_rotation (float): Degrees; infinite if failed.
        num_matches (int): With a depth in the render.
        num_inliers (int): Of them.
        reprojection_rms (float): px.
        correlation (float): Of query and render at the estimate, in [-1, 1].
        iterations (int): Renders that took part, starts included.
        start (int): Which start led here.
    """

    camera: Cameras
    status: str = "failed"
    confidence: float = 0.0
    reason: str = ""
    covariance: np.ndarray | None = None
    sigma_translation: float = math.inf
    sigma_rotation: float = math.inf
    num_matches: int = 0
    num_inliers: int = 0
    reprojection_rms: float = math.inf
    correlation: float = 0.0
    iterations: int = 0
    start: int = 0
    log: list[str] = field(default_factory=list)


@TASK_UTILS.register_module()
@dataclass(eq=False)
class RenderMatchRefiner:
    """Render RGB and depth, match with the query, lift, solve, repeat.

    An iteration renders the map at the present estimate with the query's own intrinsics,
    matches, lifts matched pixels of the render to points by its depth, and solves PnP with
    RANSAC. It stops once an update is smaller than its own standard deviation. With several
    starts, the one with most inliers after one iteration goes on.

    The confidence is ``(1 - exp(-(inliers - 4) / 30)) * max(correlation, 0) ^ 0.5 * s``, where
    ``correlation`` compares query and final render (grey, covered pixels) and ``s`` falls from
    1 as the translation's standard deviation passes 5 % of the median depth.

    Args:
        render (Callable): Gives for one camera a dict of ``rgb`` (3, H, W), ``depth`` (H, W)
            expected z-depth, ``alpha`` (H, W).
        matcher (dict | Callable, optional): Defaults to ``SIFTMatcher``.
        max_iterations (int): Per query, after the starts. Defaults to 4.
        threshold (float): Reprojection error of an inlier in px. Defaults to 2.
        threshold_of_diagonal (float, optional): The same as a share of the picture's diagonal,
            in place of ``threshold``, for queries of many sizes. Defaults to None.
        min_inliers (int): Fewer count as failed. Defaults to 12.
        min_alpha (float): Opacity from which a rendered depth counts. Defaults to 0.5.
        depth_jump (float): Relative spread of the depth around a pixel from which it is an
            edge and not used. Defaults to 0.05.
        enough_inliers (int): Once a start has so many, later ones are not tried. Defaults to
            100.
        min_confidence (float): From which the status is ``ok``. Defaults to 0.5.
        sigma_scale (float): Factor on the standard deviations that are given out, to calibrate
            them: errors of a map are not independent from pixel to pixel, so that those of PnP
            alone are too small (``sigma_factor`` of a report measures it). Defaults to 1.
        pnp (dict, optional): Further arguments of :func:`solve_pnp`.
    """

    render: Callable[[Cameras], dict[str, Tensor]]
    matcher: dict | Callable | None = None
    max_iterations: int = 4
    threshold: float = 2.0
    threshold_of_diagonal: float | None = None
    min_inliers: int = 12
    min_alpha: float = 0.5
    depth_jump: float = 0.05
    enough_inliers: int = 100
    min_confidence: float = 0.5
    sigma_scale: float = 1.0
    pnp: dict | None = None

    def __post_init__(self) -> None:
        if self.matcher is None or isinstance(self.matcher, dict):
            self.matcher = TASK_UTILS.build(self.matcher or dict(type="SIFTMatcher"))

    def __call__(
        self,
        image: Tensor,
        starts: Cameras | Sequence[Cameras],
        distortion: np.ndarray | None = None,
        photographs: Sequence[Tensor | None] | None = None,
    ) -> Refinement:
        """Pose of one query.

        Args:
            image (Tensor): ``(3, H, W)`` in [0, 1].
            starts (Cameras): One or more cameras with the query's intrinsics and size.
            distortion (np.ndarray, optional): OpenCV's coefficients of the query.
            photographs (Sequence, optional): For each start the mapped photograph taken there
                ``(3, H, W)``, or None. It is matched in place of the render, which gives the
                depth; photographs match better than a poor map.
        """
        starts = starts if isinstance(starts, Cameras) else Cameras.cat(list(starts))
        width, height = starts.one_size()
        if tuple(image.shape) != (3, height, width):
            raise ValueError(
                f"image: expected (3, {height}, {width}) as its camera, got {tuple(image.shape)}"
            )
        result = Refinement(starts[0])
        query = self.matcher.extract(image) if hasattr(self.matcher, "extract") else None
        best: PnPSolution | None = None
        for row, camera in enumerate(starts):
            photograph = None if photographs is None else photographs[row]
            solution = self._step(image, query, camera, distortion, result, photograph)
            if solution is not None and (best is None or _support(solution) > _support(best)):
                best, result.start = solution, row
            if best is not None and _support(best) >= self.enough_inliers:
                break
        if best is None:
            result.reason = "no start led to a pose: " + "; ".join(result.log)
            return result
        best = self._iterate(image, query, starts[0], best, distortion, result)
        return self._judge(image, starts[0], best, result)

    def _iterate(self, image, query, like, best, distortion, result) -> PnPSolution:
        present = best
        for _ in range(self.max_iterations):
            camera = _at(like, present.viewmat)
            solution = self._step(image, query, camera, distortion, result)
            if solution is None:
                break
            shift, degrees = _motion(present.viewmat, solution.viewmat)
            present = solution
            # A render nearer to the truth matches better; one that matches worse led astray.
            if _support(solution) >= 0.8 * _support(best):
                best = solution
            if shift <= solution.sigma_translation and degrees <= solution.sigma_rotation:
                break
        return best

    def _step(
        self, image, query, camera, distortion, result: Refinement, photograph=None
    ) -> PnPSolution | None:
        """One render, match and solve; None (and a line in the log) if that gives no pose."""
        result.iterations += 1
        picture = self.render(camera)
        shown = picture["rgb"].clamp(0, 1) if photograph is None else photograph
        if query is None:
            matches = self.matcher(image, shown)
        else:
            reference = self.matcher.extract(shown)
            matches = self.matcher.match(query, reference)
        depths, usable = self._depths(picture, matches.reference)
        count = int(usable.sum())
        if count < max(self.min_inliers, 5):
            result.log.append(f"{count} matches with depth of {len(usable)}")
            return None
        pixels = torch.from_numpy(matches.reference[usable]).double()
        depths = torch.from_numpy(depths[usable])
        points = camera.to(torch.float64).cpu().unproject(pixels, depths)[0].numpy()
        K = camera.Ks[0].double().cpu().numpy()
        threshold = self.threshold
        if self.threshold_of_diagonal is not None:
            threshold = self.threshold_of_diagonal * math.hypot(*camera.one_size())
        try:
            solution = solve_pnp(
                points, matches.query[usable], K, distortion, threshold, **(self.pnp or {})
            )
        except PnPError as error:
            result.log.append(str(error))
            return None
        inliers = int(solution.inliers.sum())
        if inliers < self.min_inliers:
            result.log.append(f"{inliers} inliers of {count} matches")
            return None
        return solution

    def _depths(self, picture: dict, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depths at pixels between pixel centres, and where they can be trusted."""
        depth = picture["depth"].double().cpu().numpy()
        alpha = picture["alpha"].double().cpu().numpy()
        height, width = depth.shape
        x, y = (pixels - 0.5).T
        left = np.clip(np.floor(x), 0, max(width - 2, 0)).astype(int)
        top = np.clip(np.floor(y), 0, max(height - 2, 0)).astype(int)
        right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
        corners = ((top, left), (top, right), (bottom, left), (bottom, right))
        values = np.stack([depth[c] for c in corners])  # (4, M)
        opaque = np.stack([alpha[c] for c in corners]).min(0) > self.min_alpha
        fx, fy = np.clip(x - left, 0, 1), np.clip(y - top, 0, 1)
        weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
        mean = (weights * values).sum(0)
        spread = values.max(0) - values.min(0)
        smooth = spread <= self.depth_jump * np.abs(mean)
        return mean, opaque & smooth & (mean > 0) & np.isfinite(mean)

    def _judge(self, image, like, best: PnPSolution, result: Refinement) -> Refinement:
        result.camera = _at(like, best.viewmat)
        picture = self.render(result.camera)
        result.correlation = _correlation(image, picture, self.min_alpha)
        result.covariance = self.sigma_scale**2 * best.covariance
        result.sigma_translation = self.sigma_scale * best.sigma_translation
        result.sigma_rotation = self.sigma_scale * best.sigma_rotation
        result.num_matches, result.num_inliers = len(best.inliers), int(best.inliers.sum())
        result.reprojection_rms = best.rms
        covered = picture["depth"][picture["alpha"] > self.min_alpha]
        scale = float(covered.median()) if covered.numel() else math.inf
        support = 1 - math.exp(-max(result.num_inliers - 4, 0) / _INLIER_SCALE)
        doubt = result.sigma_translation / (0.05 * scale)
        likeness = math.sqrt(max(result.correlation, 0.0))
        result.confidence = support * likeness / (1 + doubt**2)
        result.status = "ok"
        if result.confidence < self.min_confidence:
            result.status = "low_confidence"
            result.reason = (
                f"{result.num_inliers} inliers of {result.num_matches}, correlation "
                f"{result.correlation:.2f}, standard deviation {result.sigma_translation:.3g}"
            )
        return result


def _support(solution: PnPSolution) -> int:
    return int(solution.inliers.sum())


def _at(camera: Cameras, viewmat: np.ndarray) -> Cameras:
    pose = torch.from_numpy(viewmat)[None].to(camera.viewmats)
    return Cameras(camera.Ks, pose, camera.widths, camera.heights, validate=False)


def _motion(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Distance of the centres and angle in degrees between two world-to-camera poses."""
    centers = [-m[:3, :3].T @ m[:3, 3] for m in (before, after)]
    angle = rotation_angle(torch.from_numpy(before[:3, :3]), torch.from_numpy(after[:3, :3]))
    return float(np.linalg.norm(centers[0] - centers[1])), math.degrees(float(angle))


def _correlation(image: Tensor, picture: dict, min_alpha: float) -> float:
    """Normalised correlation of grey values where the render covers the picture."""
    covered = picture["alpha"].cpu() > min_alpha
    if int(covered.sum()) < _MIN_CORRELATION_PIXELS:
        return 0.0
    pair = [x.cpu().double().mean(0)[covered] for x in (image, picture["rgb"].clamp(0, 1))]
    pair = [x - x.mean() for x in pair]
    norms = pair[0].norm() * pair[1].norm()
    return float((pair[0] * pair[1]).sum() / norms) if float(norms) > 0 else 0.0
