"""fused_ssim: gradients, masks, padding, edge cases."""

import pytest
import torch

from mmcity_ops import fused_ssim
from mmcity_ops.reference.ssim import ssim_map
from tests.devices import DEVICE


def images(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(shape, generator=generator, dtype=dtype)
    second = (first + 0.2 * torch.randn(shape, generator=generator, dtype=dtype)).clamp(0, 1)
    return first, second


def fused_map(img1, img2):
    return fused_ssim(img1, img2, return_map=True)[1]


def test_equal_images_have_ssim_one():
    image, _ = images(1, 3, 20, 17)
    assert fused_ssim(image, image).item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 13, 9), (1, 2, 70, 530), (1, 1, 140, 3)])
def test_map_equals_convolutions(shape):
    img1, img2 = images(*shape)
    _, actual = fused_ssim(img1, img2, return_map=True)
    torch.testing.assert_close(actual, ssim_map(img1, img2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 13, 19), (1, 1, 70, 530)])
def test_gradients_of_both_images_equal_autograd(shape):
    img1, img2 = (x.requires_grad_() for x in images(*shape))
    cotangent = torch.randn(shape, dtype=torch.float64)
    _, actual = fused_ssim(img1, img2, return_map=True)
    grads = torch.autograd.grad((actual * cotangent).sum(), (img1, img2))
    expected = torch.autograd.grad((ssim_map(img1, img2) * cotangent).sum(), (img1, img2))
    for ours, theirs in zip(grads, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def flat_pair(brightness, contrast):
    """Float32 pictures of nearly one colour and their float64 copies."""
    noise = torch.randn(2, 1, 3, 40, 60, generator=torch.Generator().manual_seed(3))
    colours = (brightness, 0.95 * brightness)
    pair = [(c + contrast * part).requires_grad_() for c, part in zip(colours, noise)]
    return pair, [image.detach().double().requires_grad_() for image in pair]


@pytest.mark.parametrize("brightness", [0.02, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("contrast", [0.0, 1e-4, 3e-3])
@pytest.mark.parametrize("similarity", [ssim_map, fused_map], ids=["reference", "fused"])
def test_flat_pictures_in_single_precision(similarity, brightness, contrast):
    pair, exact = flat_pair(brightness, contrast)
    actual, expected = similarity(*pair), ssim_map(*exact)
    assert (actual.double() - expected).abs().max() < 2e-6
    cotangent = torch.randn(actual.shape, generator=torch.Generator().manual_seed(4))
    got = torch.autograd.grad(actual, pair, cotangent)
    want = torch.autograd.grad(expected, exact, cotangent.double())
    for ours, theirs in zip(got, want):
        assert (ours.double() - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_gradcheck():
    img1, img2 = (x.requires_grad_() for x in images(1, 2, 6, 5))
    assert torch.autograd.gradcheck(lambda a, b: fused_ssim(a, b), (img1, img2))


def test_gradient_of_the_second_image_alone():
    img1, img2 = images(1, 1, 12, 12)
    img2.requires_grad_()
    fused_ssim(img1, img2).backward()
    swapped = img2.detach().clone().requires_grad_()
    fused_ssim(swapped, img1).backward()
    torch.testing.assert_close(img2.grad, swapped.grad, rtol=1e-9, atol=1e-12)


def test_mask_weights_the_mean_and_stops_gradients_far_away():
    img1, img2 = images(1, 3, 40, 40)
    img1.requires_grad_()
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    mask[..., :10, :10] = True
    value, masked_map = fused_ssim(img1, img2, mask=mask, return_map=True)
    expected = ssim_map(img1, img2)[..., :10, :10].mean()
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    assert masked_map[..., 10:, :].abs().max() == 0
    value.backward()
    assert img1.grad[..., 15:, :].abs().max() == 0
    assert img1.grad[..., :10, :10].abs().max() > 0


def test_empty_mask_gives_zero_and_no_gradient():
    img1, img2 = images(1, 1, 16, 16)
    img1.requires_grad_()
    value = fused_ssim(img1, img2, mask=torch.zeros(1, 1, 16, 16))
    value.backward()
    assert value.item() == 0
    assert img1.grad.abs().max() == 0


def test_non_contiguous_and_empty_inputs():
    img1, img2 = images(1, 20, 30, 3)
    moved1, moved2 = img1.permute(0, 3, 1, 2), img2.permute(0, 3, 1, 2)
    assert torch.equal(fused_ssim(moved1, moved2), fused_ssim(moved1.contiguous(), moved2))
    empty = torch.zeros(0, 3, 8, 8)
    assert fused_ssim(empty, empty).item() == 0


def test_bitwise_equal_for_any_number_of_threads(thread_counts):
    img1, img2 = images(2, 3, 150, 90, dtype=torch.float32)
    img1.requires_grad_()

    def run():
        (grad,) = torch.autograd.grad(fused_ssim(img1, img2), img1)
        return grad

    one, two = (thread_counts(n, run) for n in (1, 2))
    assert torch.equal(one, two)


def test_errors_name_the_argument():
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"img2: expected shape \[1, 3, 16, 16\]"):
        fused_ssim(image, image[:, :1])
    with pytest.raises(ValueError, match="padding"):
        fused_ssim(image, image, padding="reflect")
    with pytest.raises(ValueError, match="at least 11 pixels"):
        fused_ssim(image[..., :8], image[..., :8], padding="valid")
    with pytest.raises(TypeError, match="img1"):
        fused_ssim(image.half(), image.half())
    with pytest.raises(ValueError, match="mask"):
        fused_ssim(image, image, mask=torch.ones(1, 2, 16, 16))


def test_backward_without_train_and_double_backward_raise():
    img1, img2 = images(1, 1, 12, 12)
    img1.requires_grad_()
    with pytest.raises(RuntimeError, match="train: expected True"):
        fused_ssim(img1, img2, train=False).backward()
    (grad,) = torch.autograd.grad(fused_ssim(img1, img2), img1, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()


def test_autocast_runs_in_float32():
    img1, img2 = images(1, 1, 16, 16, dtype=torch.float32)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        value = fused_ssim(img1.bfloat16(), img2.bfloat16())
    assert value.dtype == torch.float32


def test_opcheck():
    img1, img2 = (x.requires_grad_() for x in images(1, 2, 12, 13))
    centers = torch.tensor([[[0.5, 0.4]], [[0.3, 0.6]]], dtype=torch.float64)
    torch.library.opcheck(torch.ops.mmcity.fused_ssim_fwd, (img1, img2, centers, 4))
    img1, img2 = img1.detach(), img2.detach()
    _, partials = torch.ops.mmcity.fused_ssim_fwd(img1, img2, centers, 3)
    args = (torch.ones_like(partials[0]), img1, img2, centers, partials)
    torch.library.opcheck(torch.ops.mmcity.fused_ssim_bwd, args)
