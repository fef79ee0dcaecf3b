"""The survey in the CityGS-X layout, read back with the readers that users have."""

import json

import numpy as np
import pytest
from PIL import Image

from mmcity.datasets.io import read_colmap_model
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import WRITERS, write_citygsx


def test_layout(toytown_citygsx):
    train = sorted(p.name for p in (toytown_citygsx / "train" / "rgbs").iterdir())
    held_out = sorted(p.name for p in (toytown_citygsx / "val" / "rgbs").iterdir())
    assert train == [f"{k:06d}.jpg" for k in range(8)]
    assert held_out and set(held_out) < set(train)
    depths = sorted(p.stem for p in (toytown_citygsx / "train" / "depths").iterdir())
    assert depths == [name[:-4] for name in train]
    with Image.open(toytown_citygsx / "train" / "rgbs" / train[0]) as image:
        assert image.size == (96, 72)


def test_points_reproject_within_a_pixel(toytown_citygsx):
    model = read_colmap_model(toytown_citygsx)
    errors = model.reprojection_errors()
    assert len(errors) > 1000
    assert errors.max() < 1
    assert 0.25 < errors.mean() < 0.45  # mean of a 2D Gaussian with 0.3 px is 0.376
    assert model.points3D.track_lengths.min() >= 3


def test_text_and_binary_models_are_one(toytown_citygsx, tmp_path):
    binary = read_colmap_model(toytown_citygsx / "sparse" / "0")
    for part in ("cameras", "images", "points3D"):
        source = toytown_citygsx / "sparse" / "0" / f"{part}.txt"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    text = read_colmap_model(tmp_path)
    assert np.allclose(text.points3D.xyz, binary.points3D.xyz, atol=1e-9)
    assert {i.name for i in text.images.values()} == {i.name for i in binary.images.values()}


def test_points_lie_where_the_exact_depth_says(toytown_citygsx):
    model = read_colmap_model(toytown_citygsx)
    image = model.images[1]
    depth = np.load(toytown_citygsx / "gt" / "depths" / f"{image.name[:-4]}.npy")
    has_point = image.point3D_ids >= 0
    rows = np.searchsorted(model.points3D.ids, image.point3D_ids[has_point])
    w, x, y, z = image.qvec
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    expected = (model.points3D.xyz[rows] @ rotation.T + image.tvec)[:, 2]
    column, row = np.floor(image.xys[has_point]).astype(int).T
    found = depth[row.clip(0, 71), column.clip(0, 95)]
    assert np.median(np.abs(found / expected - 1)) < 0.01


def test_depth_prior_is_affine_in_inverse_depth(toytown_citygsx):
    parameters = json.loads((toytown_citygsx / "gt" / "depth_priors.json").read_text())
    scales = []
    for name, p in parameters.items():
        prior = np.asarray(Image.open(toytown_citygsx / "train" / "depths" / f"{name}.png"))
        depth = np.load(toytown_citygsx / "gt" / "depths" / f"{name}.npy")
        assert prior.dtype == np.uint16
        seen = depth > 0
        inverse = p["scale"] * (prior[seen] / 65536.0) + p["offset"]
        error = np.abs(inverse * depth[seen] - 1)
        assert 0.001 < np.median(error) < 0.06
        scales.append(p["scale"])
    assert np.std(scales) > 0.01 * np.mean(scales)  # really unknown per image


def test_same_seed_gives_the_same_bytes_and_a_finished_folder_is_kept(toytown_citygsx, tmp_path):
    manifest = json.loads((toytown_citygsx / "toytown.json").read_text())
    config = ToytownConfig.from_dict(manifest["config"])
    options = dict(image_size=(96, 72), num_images=8, num_points=1500)
    again = write_citygsx(tmp_path / "again", config, **options)
    assert json.loads((again / "toytown.json").read_text())["sha256"] == manifest["sha256"]
    before = (again / "train" / "rgbs" / "000000.jpg").stat().st_mtime_ns
    write_citygsx(again, config, **options)
    assert (again / "train" / "rgbs" / "000000.jpg").stat().st_mtime_ns == before

    # Interrupted: manifest and some files are missing; the rest is kept.
    (again / ".toytown-unfinished.json").write_text(
        json.dumps({k: manifest[k] for k in ("format", "config", "options")})
    )
    for name in ("toytown.json", "README.md", "train/rgbs/000003.jpg", "sparse/0/images.bin"):
        (again / name).unlink()
    write_citygsx(again, config, **options)
    assert json.loads((again / "toytown.json").read_text())["sha256"] == manifest["sha256"]
    assert (again / "train" / "rgbs" / "000000.jpg").stat().st_mtime_ns == before

    with pytest.raises(FileExistsError, match="other settings"):
        write_citygsx(again, ToytownConfig(seed=99), **options)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        write_citygsx(tmp_path / "foreign", config, **options)


def test_pycolmap_opens_the_model(toytown_citygsx):
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction(str(toytown_citygsx / "sparse" / "0"))
    assert model.num_images() == 8
    assert model.compute_mean_reprojection_error() < 1


def test_writers_are_registered():
    assert WRITERS["citygsx"] is write_citygsx
