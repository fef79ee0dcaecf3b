"""Depth priors and a first scene from unposed images."""

import numpy as np
import pytest
from PIL import Image

from mmcity.apis import GeometryPrior, StreamingReconstructor
from mmcity.datasets.depth_scale import fit_depth_params
from mmcity.datasets.io.colmap_model import read_colmap_model
from tests.devices import DEVICE
from tests.models.streamvggt.tiny import tiny_model


def test_priors_match_the_reconstruction(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(3):
        image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{index:04d}.jpg")
    run = StreamingReconstructor(tiny_model(), device=DEVICE, image_size=42, resize="eval")
    prior = GeometryPrior(run)
    files = prior.write(
        tmp_path / "images", tmp_path / "depths", tmp_path / "sparse" / "0", max_points=500
    )
    results = list(run(tmp_path / "images"))
    levels = np.array(Image.open(files.depths[1]))
    assert levels.shape == (40, 60) and levels.dtype == np.uint16
    middle = 1 / (levels[20, 30] * files.inverse_depth_unit)
    near = results[1].depth[12:16, 19:23]
    assert near.min() * 0.9 <= middle <= near.max() * 1.1

    model = read_colmap_model(tmp_path)
    assert [image.name for image in model.images.values()] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    np.testing.assert_allclose(
        np.linalg.inv(model.images[2].viewmat), results[1].cam_to_world, atol=1e-5
    )
    # The network's image is the whole picture: fields of view stay, the centre stays central.
    camera, K = model.cameras[1], results[0].K
    height, width = results[0].depth.shape
    assert camera.params[0] / camera.width == pytest.approx(K[0, 0] / width, rel=1e-5)
    assert camera.params[1] / camera.height == pytest.approx(K[1, 1] / height, rel=1e-5)
    assert len(model.points3D) == 500


def test_depth_scales_fit_the_first_points(tmp_path):
    """The next step of a reconstruction finds the factor between pictures and world."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(2):
        image = np.kron(rng.integers(40, 200, (5, 6, 3)), np.ones((28, 28, 1))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{index:04d}.png")
    run = StreamingReconstructor(tiny_model(), device=DEVICE, image_size=168, resize="eval")
    prior = GeometryPrior(run, min_depth=0.02)
    prior.write(tmp_path / "images", tmp_path / "depths", tmp_path / "sparse", max_points=4000)
    model = read_colmap_model(tmp_path / "sparse")
    assert sum(len(image.xys) for image in model.images.values()) == 4000
    assert model.reprojection_errors().max() < 0.5  # float32
    params = fit_depth_params(tmp_path / "sparse", tmp_path / "depths", "ransac")
    for row in params.values():  # 1 / z = scale * value / 65536, value = 65535 * min_depth / z
        assert row["scale"] == pytest.approx(1 / 0.02, rel=0.05)
        assert abs(row["offset"]) < 0.05


def test_cropped_images_are_refused():
    run = StreamingReconstructor(tiny_model(), device=DEVICE, image_size=42)
    with pytest.raises(ValueError, match="resize='eval'"):
        GeometryPrior(run)


def test_maps_belong_to_the_stored_pixels(tmp_path):
    """Readers of scenes do not apply EXIF orientation, and cameras are those of their pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for row in range(2):
        Image.new("RGB", (60, 40), (90 * row, 90, 90)).save(tmp_path / f"{row}.jpg", exif=exif)
    run = StreamingReconstructor(tiny_model(), device=DEVICE, image_size=42, resize="eval")

    files = GeometryPrior(run).write(tmp_path, tmp_path / "depths", tmp_path / "sparse")

    assert [Image.open(file).size for file in files.depths] == [(60, 40)] * 2
    cameras = read_colmap_model(tmp_path / "sparse").cameras.values()
    assert {(camera.width, camera.height) for camera in cameras} == {(60, 40)}
