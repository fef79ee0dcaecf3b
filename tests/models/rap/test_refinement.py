"""Render, match and solve on a scene whose poses are known exactly."""

import numpy as np
import pytest
import torch

from mmcity.evaluation.functional.localization import localization_errors
from mmcity.models.rap.refinement import PnPError, RenderMatchRefiner, SIFTMatcher, solve_pnp
from mmcity.structures import Cameras
from mmcity.structures.geometry import se3_exp

from .textured_room import render_room, room_camera


def errors(camera: Cameras, truth: Cameras) -> tuple[float, float]:
    found = localization_errors(camera.cam_to_world, truth.cam_to_world)
    return tuple(float(e) for e in found)


def moved(camera: Cameras, metres: float, degrees: float, seed: int) -> Cameras:
    """The camera after a motion of given size in a random direction."""
    rng = torch.Generator().manual_seed(seed)
    shift, axis = torch.randn(2, 3, generator=rng, dtype=torch.float64)
    twist = torch.cat([metres * shift / shift.norm(), np.radians(degrees) * axis / axis.norm()])
    viewmats = se3_exp(twist) @ camera.viewmats.double()
    return Cameras(camera.Ks, viewmats, camera.widths, camera.heights)


def correspondences(seed: int, count: int = 200, outliers: float = 0.5):
    rng = np.random.RandomState(seed)
    camera = room_camera((0.3, -0.4, -1.0), (0.5, 0.2, 3.0))
    pixels = rng.uniform([0, 0], camera.one_size(), (count, 2))
    depths = rng.uniform(1, 6, count)
    points = camera.unproject(torch.from_numpy(pixels), torch.from_numpy(depths))[0].numpy()
    wrong = rng.permutation(count)[: int(outliers * count)]
    pixels[wrong] = rng.uniform([0, 0], camera.one_size(), (len(wrong), 2))
    return camera, points, pixels, wrong


@pytest.mark.parametrize("backend", ["opencv", "poselib", "pycolmap"])
def test_pnp_with_half_of_the_matches_wrong(backend):
    camera, points, pixels, wrong = correspondences(0)
    solution = solve_pnp(points, pixels, camera.Ks[0].numpy(), backend=backend)
    difference = solution.viewmat - camera.viewmats[0].numpy()
    assert np.abs(difference).max() < 1e-6
    assert solution.inliers.sum() >= len(points) - len(wrong)
    assert solution.rms < 0.3


def test_pnp_backends_are_named():
    camera, points, pixels, _ = correspondences(0)
    with pytest.raises(ValueError, match="poselib.*got 'ceres'"):
        solve_pnp(points, pixels, camera.Ks[0].numpy(), backend="ceres")


def test_pnp_needs_five_matches():
    camera, points, pixels, _ = correspondences(0)
    with pytest.raises(PnPError, match="4 matches"):
        solve_pnp(points[:4], pixels[:4], camera.Ks[0].numpy())


def test_pnp_covariance_predicts_the_scatter():
    """Over many draws of pixel noise, poses scatter as the covariance says."""
    camera, points, pixels, _ = correspondences(1, count=80, outliers=0.0)
    rng, found = np.random.RandomState(5), []
    for _ in range(40):
        noisy = pixels + rng.normal(0, 0.4, pixels.shape)
        found.append(solve_pnp(points, noisy, camera.Ks[0].numpy(), threshold=4.0))
    centers = np.stack([-s.viewmat[:3, :3].T @ s.viewmat[:3, 3] for s in found])
    scatter = np.sqrt(centers.var(0, ddof=1).sum())
    predicted = np.mean([s.sigma_translation for s in found])
    assert predicted == pytest.approx(scatter, rel=0.35)


def test_pnp_removes_distortion():
    cv2 = pytest.importorskip("cv2")
    camera, points, _, _ = correspondences(2, outliers=0.0)
    K, distortion = camera.Ks[0].numpy(), np.array([-0.12, 0.03, 0.001, -0.002])
    rotation = cv2.Rodrigues(camera.viewmats[0, :3, :3].numpy())[0]
    bent = cv2.projectPoints(points, rotation, camera.viewmats[0, :3, 3].numpy(), K, distortion)[0]
    solution = solve_pnp(points, bent[:, 0], K, distortion)
    np.testing.assert_allclose(solution.viewmat, camera.viewmats[0].numpy(), atol=1e-4)


def test_matches_are_where_the_picture_moved():
    camera = room_camera((0.0, 0.0, -1.0), (0.2, 0.1, 3.0))
    image = render_room(camera)["rgb"]
    matches = SIFTMatcher()(image[:, :, 10:], image[:, :, :-10])
    assert len(matches.query) > 50
    shift = matches.reference - matches.query
    assert np.median(np.abs(shift - [10, 0])) < 0.05
    assert ((matches.confidence >= 0) & (matches.confidence <= 1)).all()


VIEWS = [((0.0, 0.0, -1.0), (0.3, 0.1, 3.0)), ((1.0, -0.5, 0.5), (-2.0, 0.5, 3.0)),
         ((-1.0, 0.4, 1.0), (2.5, -0.5, -2.0))]  # fmt: skip


def test_refinement_lowers_the_error_of_noised_poses():
    refiner = RenderMatchRefiner(render_room)
    rng, before, after = torch.Generator().manual_seed(0), [], []
    for row, view in enumerate(VIEWS):
        truth = room_camera(*view)
        # Another exposure and sensor noise, as in a picture of another day.
        image = 0.8 * render_room(truth)["rgb"] + 0.02
        image = (image + 0.01 * torch.randn(image.shape, generator=rng)).clamp(0, 1)
        start = moved(truth, 0.2, 5.0, seed=row)
        result = refiner(image, start)
        assert result.status == "ok", result.reason
        assert result.confidence > 0.6 and result.num_inliers > 50
        before.append(errors(start, truth))
        after.append(errors(result.camera, truth))
    before, after = np.median(before, 0), np.median(after, 0)
    assert (after < before / 20).all(), (before, after)


def test_iterations_end_when_an_update_is_below_its_deviation():
    truth = room_camera(*VIEWS[0])
    refiner = RenderMatchRefiner(render_room, max_iterations=30)
    counts = [
        refiner(render_room(truth)["rgb"], start).iterations
        for start in (truth, moved(truth, 0.02, 0.5, seed=3), moved(truth, 0.2, 5, seed=3))
    ]
    # The start and one update that changes nothing; a worse start takes longer, but not for ever.
    assert counts[0] == 2 < counts[1] <= counts[2] < 12


def test_deviations_may_be_calibrated():
    truth = room_camera(*VIEWS[0])
    image, start = render_room(truth)["rgb"], moved(truth, 0.1, 3, 7)
    plain = RenderMatchRefiner(render_room)(image, start)
    wider = RenderMatchRefiner(render_room, sigma_scale=2.0)(image, start)
    assert wider.sigma_rotation == pytest.approx(2 * plain.sigma_rotation)
    np.testing.assert_allclose(wider.covariance, 4 * plain.covariance)
    assert wider.iterations == plain.iterations  # the gate is that of PnP


def test_query_with_its_own_intrinsics():
    truth = room_camera(*VIEWS[0], width=200, height=110, focal=180.0)
    result = RenderMatchRefiner(render_room)(render_room(truth)["rgb"], moved(truth, 0.1, 3, 7))
    metres, degrees = errors(result.camera, truth)
    assert result.status == "ok" and metres < 0.01 and degrees < 0.1


def test_best_of_several_starts_goes_on():
    truth = room_camera(*VIEWS[0])
    away = room_camera((0.0, 0.0, 1.0), (-0.3, 0.1, -3.0))  # looks at the opposite wall
    result = RenderMatchRefiner(render_room)(
        render_room(truth)["rgb"], [away, moved(truth, 0.2, 5, 1)]
    )
    assert result.start == 1 and errors(result.camera, truth)[0] < 0.01


def test_threshold_may_follow_the_size_of_the_picture():
    truth = room_camera((0.2, 0.1, -0.3), (0.4, 0.2, 3.0))
    image = render_room(truth)["rgb"]
    start = moved(truth, 0.1, 3.0, seed=1)
    diagonal = float(np.hypot(*truth.one_size()))
    found = [
        RenderMatchRefiner(render_room, threshold_of_diagonal=px / diagonal)(image, start)
        for px in (2.0, 1e-5)
    ]
    same = RenderMatchRefiner(render_room, threshold=2.0)(image, start)
    assert torch.equal(found[0].camera.viewmats, same.camera.viewmats)
    assert found[1].status == "failed"  # no match is as good as that


@pytest.mark.parametrize(
    ("option", "status"),
    [
        (dict(min_inliers=10_000), "failed"),
        (dict(depth_jump=-1.0), "failed"),  # every pixel is an edge
        (dict(min_confidence=1.0), "low_confidence"),
    ],
)
def test_poses_of_too_little_evidence_are_not_ok(option, status):
    truth = room_camera(*VIEWS[0])
    refiner = RenderMatchRefiner(render_room, **option)
    assert refiner(render_room(truth)["rgb"], moved(truth, 0.1, 3, 7)).status == status


def test_starts_after_one_that_suffices_are_not_tried():
    truth = room_camera(*VIEWS[0])
    image, starts = render_room(truth)["rgb"], [moved(truth, 0.3, 5.0, seed=1), truth]
    for enough, best in ((20, 0), (10_000, 1)):
        assert RenderMatchRefiner(render_room, enough_inliers=enough)(image, starts).start == best


def test_picture_of_another_place_fails_with_a_reason():
    other = torch.rand(3, 120, 160, generator=torch.Generator().manual_seed(2))
    start = room_camera(*VIEWS[0])
    result = RenderMatchRefiner(render_room)(other, start)
    assert result.status == "failed" and result.confidence == 0
    assert "matches" in result.reason or "inliers" in result.reason
    assert torch.equal(result.camera.viewmats, start.viewmats)
    assert result.covariance is None


def test_size_of_image_and_camera_must_agree():
    with pytest.raises(ValueError, match=r"expected \(3, 120, 160\)"):
        RenderMatchRefiner(render_room)(torch.zeros(3, 100, 160), room_camera(*VIEWS[0]))
