"""Image metrics against scikit-image, closed forms and each other."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mmcity.evaluation.functional import LPIPS, colour_correct, psnr, ssim
from mmcity.evaluation.metrics import ImageQualityMetric
from mmcity.registry import METRICS
from mmcity.structures import SceneDataSample
from tests.conftest import golden_dir


def picture(seed=0, size=(3, 40, 52)):
    rng = np.random.default_rng(seed)
    smooth = rng.random((3, 5, 6))
    image = torch.nn.functional.interpolate(
        torch.tensor(smooth)[None], size[1:], mode="bicubic", align_corners=True
    )[0]
    return image.clamp(0, 1)


def test_psnr_of_a_constant_offset():
    image = torch.full((3, 8, 8), 0.25)
    assert psnr(image, image + 0.1).item() == pytest.approx(20.0, abs=1e-5)
    assert math.isinf(psnr(image, image).item())


def test_psnr_and_ssim_equal_scikit_image():
    first, second = picture(0), (picture(0) + 0.1 * picture(1)).clamp(0, 1)
    a, b = first.permute(1, 2, 0).numpy(), second.permute(1, 2, 0).numpy()
    assert psnr(second, first).item() == pytest.approx(
        peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-9
    )
    _, similarity = structural_similarity(
        a, b, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    # scikit-image mirrors the border where we pad with zeros: compare away from it.
    inner = torch.zeros(first.shape[1:], dtype=torch.bool)
    inner[5:-5, 5:-5] = True
    expected = similarity[5:-5, 5:-5].mean()
    assert ssim(second, first, inner).item() == pytest.approx(expected, abs=1e-6)


def test_psnr_and_ssim_equal_the_golden_vectors():
    data = np.load(golden_dir("citygsx") / "image_losses.npz")
    first, second = torch.tensor(data["img1"]), torch.tensor(data["img2"])
    assert ssim(first, second).item() == pytest.approx(float(data["ssim"]), abs=2e-6)


def test_mask_leaves_pixels_out():
    first, second = picture(0), picture(0).clone()
    second[:, :, :20] = 0.0  # wrong on the left side only
    mask = torch.zeros(40, 52, dtype=torch.bool)
    mask[:, 20:] = True
    assert math.isinf(psnr(first, second, mask).item())
    assert psnr(first, second).item() < 20


def test_colour_correction_undoes_an_exposure():
    scene = picture(2)
    matrix = torch.tensor([[0.9, 0.05, 0.0], [0.0, 0.8, 0.1], [0.02, 0.0, 0.85]]).double()
    photograph = torch.einsum("ij,jhw->ihw", matrix, scene) + 0.03
    assert psnr(scene, photograph) < 30
    assert psnr(colour_correct(scene, photograph), photograph) > 60


def test_colour_correction_of_a_flat_image_stays_finite():
    flat, photograph = torch.full((3, 6, 6), 0.5), picture(3, (3, 6, 6))
    assert bool(torch.isfinite(colour_correct(flat, photograph)).all())


def sample(prediction, target, covered=None):
    out = SceneDataSample(metainfo=dict(img_path="a.png"))
    out.pred_image, out.gt_image = prediction, target
    if covered is not None:
        out.pred_covered = covered
    return out.to_dict()


def test_metric_reports_means_size_and_count():
    metric = METRICS.build(dict(type="ImageQualityMetric", split="test"))
    image = torch.full((3, 8, 16), 0.5)
    covered = torch.zeros(8, 16, dtype=torch.bool)
    covered[:, :4] = True
    worse = image + 0.1
    worse[:, :, :4] = 0.51
    metric.process(None, [sample(image + 0.01, image), sample(worse, image, covered)])
    result = metric.evaluate(size=2)
    mse = 0.75 * 0.1**2 + 0.25 * 0.01**2
    assert result["test/psnr"] == pytest.approx((40 - 10 * math.log10(mse)) / 2, abs=1e-4)
    assert result["test/psnr_covered"] == pytest.approx(40.0, abs=1e-4)
    assert result["test/coverage"] == pytest.approx(0.25)
    assert result["test/n_images"] == 2
    assert result["test/size"] == "16x8"
    assert "test/lpips" not in result


def test_metric_of_the_right_half():
    metric = METRICS.build(dict(type="ImageQualityMetric", right_half=True))
    image = torch.full((3, 8, 16), 0.5)
    worse = image + 0.1
    worse[:, :, 8:] = 0.51
    metric.process(None, [sample(worse, image)])
    result = metric.evaluate(size=1)
    assert result["test/psnr_right"] == pytest.approx(40.0, abs=1e-4)
    assert result["test/psnr"] == pytest.approx(-10 * math.log10(0.5 * (0.1**2 + 1e-4)), abs=1e-4)
    assert "test/lpips_right" not in result and result["test/ssim_right"] <= 1


def test_metric_without_a_photograph_names_the_image():
    broken = SceneDataSample(metainfo=dict(img_path="b.png"))
    broken.pred_image = torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match="b.png"):
        ImageQualityMetric().process(None, [broken.to_dict()])


def alex_weights(path):
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    state = {}
    for number, (index, (out, into, kernel)) in enumerate(zip((0, 3, 6, 8, 10), sizes)):
        state[f"features.{index}.weight"] = 0.05 * torch.randn(
            out, into, kernel, kernel, generator=generator
        )
        state[f"features.{index}.bias"] = torch.zeros(out)
        state[f"lin{number}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    torch.save(state, path)
    return state


def test_lpips_follows_torchvision_names_and_orders_distances(tmp_path):
    alex_weights(tmp_path / "alex.pth")
    network = LPIPS(tmp_path / "alex.pth")
    image = picture(4, (3, 64, 64)).float()[None]
    near, far = (image + 0.02).clamp(0, 1), image.flip(-1)
    assert network(image, image).item() == 0
    assert 0 < network(near, image).item() < network(far, image).item()


def test_lpips_names_a_missing_weight(tmp_path):
    state = alex_weights(tmp_path / "alex.pth")
    del state["lin3.model.1.weight"]
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match="broken.pth.*lin3.model.1.weight"):
        LPIPS(tmp_path / "broken.pth")
