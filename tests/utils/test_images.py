"""Pictures of a folder, grey values, ImageNet's statistics."""

import pytest
import torch

from mmcity.utils.images import imagenet_normalized, list_images, tell_none, to_grey


def test_pictures_are_listed_in_order_and_below_only_when_asked(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "below/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [p.name for p in list_images(tmp_path, recursive=True)] == ["a.jpg", "b.PNG", "c.webp"]


def test_pictures_of_kinds_that_are_not_read_are_told(tmp_path):
    for name in ("a.jpg", "a.CR2", "b.HEIC", "c.heic", ".d.heic"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r": 2 of kinds that are not read, such as b\.HEIC"):
        assert [file.name for file in list_images(tmp_path)] == ["a.jpg"]
    (tmp_path / "a.jpg").unlink()
    assert tell_none(tmp_path).startswith(", but 3 of kinds that are not read, such as a.CR2: conv")
    assert tell_none(tmp_path / "nothing") == ""


def test_grey_of_pure_colours():
    image = torch.eye(3)[:, :, None]  # red, green and blue below each other
    torch.testing.assert_close(to_grey(image)[:, 0], torch.tensor([0.299, 0.587, 0.114]))
    torch.testing.assert_close(to_grey(torch.ones(3, 2, 2)), torch.ones(2, 2))


def test_the_mean_colour_becomes_zero_and_a_deviation_one():
    mean = torch.tensor([123.675, 116.28, 103.53]) / 255
    above = mean + torch.tensor([58.395, 57.12, 57.375]) / 255
    images = torch.stack([mean, above])[:, :, None, None].expand(2, 3, 4, 5)
    want = torch.stack([torch.zeros(3, 4, 5), torch.ones(3, 4, 5)])
    torch.testing.assert_close(imagenet_normalized(images), want, atol=1e-6, rtol=0)
