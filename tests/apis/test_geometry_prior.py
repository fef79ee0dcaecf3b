"""Depth priors and a first scene from unposed images."""

import numpy as np
import pytest
from PIL import Image

from mmcity.apis import GeometryPrior, StreamingReconstructor
from mmcity.datasets.io.colmap_model import read_colmap_model
from tests.models.streamvggt.tiny import tiny_model


def test_priors_match_the_reconstruction(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(3):
        image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{index:04d}.jpg")
    run = StreamingReconstructor(tiny_model(), device="cpu", image_size=42, resize="eval")
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


def test_cropped_images_are_refused():
    run = StreamingReconstructor(tiny_model(), device="cpu", image_size=42)
    with pytest.raises(ValueError, match="resize='eval'"):
        GeometryPrior(run)
