"""SOG: texels worked out by hand, what comes back, what is refused."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.structures import (
    GaussianFileError,
    Gaussians,
    SplatInfo,
    read_gaussian_file,
    read_sog,
    write_gaussians,
    write_sog,
)
from mmcity.structures.morton import blocks_along_curve
from tests.structures.io.test_gaussian_formats import rotation_error, scene


def two() -> Gaussians:
    return Gaussians(
        means=[[np.e - 1, 1 - np.e, 0.0], [0.0, 0.0, 0.0]],
        quats=[[0.5, 0.5, -0.5, 0.5], [0.0, 0.0, 0.0, -3.0]],
        scales=[[np.e, 1.0, 1.0], [1.0, 1.0, 1.0]],
        opacities=[0.0, 0.4],
        sh0=[[[0.5, -0.5, 0.5]], [[-0.5, -0.5, 0.5]]],
    )


def texels(path, name):
    return np.asarray(Image.open(path.parent / name).convert("RGBA"))


def test_texels_of_two_gaussians(tmp_path):
    """Worked out by hand, along the curve: x highest and y lowest of both is the first."""
    path = tmp_path / "meta.json"
    write_sog(two(), path)
    meta = json.loads(path.read_text())
    assert (meta["version"], meta["count"]) == (2, 2) and "shN" not in meta
    np.testing.assert_allclose(meta["means"]["mins"], [0, -1, 0], atol=1e-7)
    np.testing.assert_allclose(meta["means"]["maxs"], [1, 0, 0], atol=1e-7)
    for name in ("means_l.webp", "means_u.webp"):
        pixels = texels(path, name)
        assert pixels.shape == (4, 4, 4)
        assert pixels[0, :2].tolist() == [[255, 0, 0, 255], [0, 255, 0, 255]]
    np.testing.assert_allclose(meta["scales"]["codebook"], [0] + [1] * 255, atol=1e-6)
    assert texels(path, "scales.webp")[0, :2, :3].tolist() == [[1, 0, 0], [0, 0, 0]]
    # w is left out of the first: 255 (+-0.5 / sqrt 2 + 0.5) = 217.7, 37.3; z of the second.
    assert texels(path, "quats.webp")[0, :2].tolist() == [[218, 37, 218, 252], [128, 128, 128, 255]]
    assert meta["sh0"]["codebook"][:2] == [-0.5, 0.5]
    # The colour of what cannot be seen is kept.
    assert texels(path, "sh0.webp")[0, :2].tolist() == [[1, 0, 1, 0], [0, 0, 1, 102]]


@pytest.mark.parametrize("name", ["a.sog", "folder/meta.json"])
def test_what_comes_back_is_as_near_as_the_bits_allow(tmp_path, name):
    before = scene(600, degree=2)
    info = write_gaussians(before, tmp_path / name, info=SplatInfo("antialiased"))
    assert info.format == "sog 2"
    assert info.lost == ("3 Gaussians below opacity 1/510 become invisible",)
    after, info = read_gaussian_file(tmp_path / name)
    assert (info.format, info.model, info.sh_degree) == ("sog 2", "antialiased", 2)
    before = before[blocks_along_curve(before.means)]
    assert ((after.means - before.means).abs() / (1 + before.means.abs())).max() < 1e-4
    assert rotation_error(before, after) < 1.1
    assert (after.scales.log() - before.scales.log()).abs().max() < 0.06
    assert (after.opacities - before.opacities).abs().max() <= 0.5 / 255 + 1e-6
    assert (after.sh0 - before.sh0).abs().max() < 0.06
    assert ((after.shN - before.shN) ** 2).mean().sqrt() < 0.6 * before.shN.std()


def test_a_second_writing_changes_nothing(tmp_path):
    write_sog(scene(600, degree=1), tmp_path / "a.sog")
    once = read_sog(tmp_path / "a.sog")
    write_sog(once, tmp_path / "b.sog")
    write_sog(once, tmp_path / "c.sog")
    assert (tmp_path / "b.sog").read_bytes() == (tmp_path / "c.sog").read_bytes()
    twice = read_sog(tmp_path / "b.sog")
    for field in ("means", "opacities", "sh0", "shN", "scales"):
        torch.testing.assert_close(getattr(once, field), getattr(twice, field), rtol=1e-6, atol=0)
    assert rotation_error(once, twice) < 1e-3


def test_scales_of_zero_and_one_gaussian(tmp_path):
    flat = two()
    flat.scales[:, 2] = 0
    write_sog(flat, tmp_path / "a.sog", info=SplatInfo("2dgs"))
    back, info = read_gaussian_file(tmp_path / "a.sog")
    assert info.model == "2dgs" and not back.scales[:, 2].any()
    torch.testing.assert_close(back.scales[:, :2], flat.scales[:, :2].float())
    write_sog(flat, tmp_path / "b.sog")
    assert (read_sog(tmp_path / "b.sog").scales[:, 2] < 1e-8).all()
    one = two()[:1]
    one.scales[:] = 0
    write_sog(one, tmp_path / "c.sog")
    torch.testing.assert_close(read_sog(tmp_path / "c.sog").means, one.means.float())


def repacked(path, change):
    """A SOG file whose members a function changed, ``meta.json`` as its content."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["meta.json"] = json.loads(members["meta.json"])
    change(members)
    members["meta.json"] = json.dumps(members["meta.json"]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sog") / "a.sog"
    write_sog(scene(600, degree=1), path)
    return path.read_bytes()


def picture(*shape, **options):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((*shape, 4), np.uint8)).save(stream, "WEBP", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m["meta.json"].update(count=10_000), "about 10000 pixels, got 28 x 24"),
        (lambda m: m["meta.json"].update(count=0), "expected Gaussians, got none"),
        (lambda m: m["meta.json"].update(count="all"), "count of Gaussians"),
        (lambda m: m["meta.json"].update(version=3), "version 1 or 2, got 3"),
        (lambda m: m["meta.json"].update(model="other"), "model"),
        (lambda m: m["meta.json"].pop("quats"), "SOG scene, got 'quats'"),
        (lambda m: m["meta.json"]["scales"].update(codebook=[1.0]), "codes of scales below 1"),
        (lambda m: m["meta.json"]["sh0"].update(codebook=[None] * 256), "finite numbers of sh0"),
        (lambda m: m["meta.json"]["means"].update(maxs=[1e9] * 3), "NaN or infinity"),
        (lambda m: m["meta.json"]["shN"].update(bands=4), "of degree 1 to 3"),
        (lambda m: m["meta.json"]["shN"].update(bands=2), "about 4096 pixels"),
        (lambda m: m.update({"quats.webp": b"no picture"}), "quats.webp: expected a lossless WebP"),
        (lambda m: m.update({"quats.webp": m["quats.webp"][:60]}), "quats.webp: expected a WebP"),
        (lambda m: m.update({"quats.webp": picture(24, 28, quality=50)}), "a lossy one"),
        (lambda m: m.pop("sh0.webp"), "sh0.webp"),
    ],
)
def test_broken_files_name_themselves(tmp_path, sound, change, message):
    path = tmp_path / "a.sog"
    path.write_bytes(sound)
    repacked(path, change)
    with pytest.raises(GaussianFileError, match=message) as error:
        read_gaussian_file(path)
    assert "a.sog" in str(error.value)


def test_a_folder_may_name_no_file_outside(tmp_path):
    write_sog(scene(20, degree=0), tmp_path / "scene" / "meta.json")
    meta = json.loads((tmp_path / "scene" / "meta.json").read_text())
    meta["quats"]["files"] = ["../scene/quats.webp"]
    (tmp_path / "scene" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(GaussianFileError, match="leads out of it"):
        read_gaussian_file(tmp_path / "scene")


def test_a_zip_in_a_folder_of_its_own_is_read(tmp_path):
    write_sog(scene(20, degree=0), tmp_path / "a.sog")
    with (
        zipfile.ZipFile(tmp_path / "a.sog") as source,
        zipfile.ZipFile(tmp_path / "b.zip", "w") as target,
    ):
        for name in source.namelist():
            target.writestr(f"scene/{name}", source.read(name))
    assert torch.equal(
        read_gaussian_file(tmp_path / "a.sog")[0].means,
        read_gaussian_file(tmp_path / "b.zip")[0].means,
    )


@pytest.mark.timeout(120)
def test_bombs_are_refused_before_memory_is_taken(tmp_path):
    """Of 400 MB: a member that inflates to them, a texture that decodes to more than them."""
    paths = [tmp_path / "bytes.sog", tmp_path / "pixels.sog"]
    for path in paths:
        write_sog(scene(20, degree=0), path)
    repacked(paths[0], lambda members: members.update({"quats.webp": bytes(400 << 20)}))
    wide = picture(400, 400, lossless=True)
    at = wide.index(b"VP8L") + 9  # width - 1 and height - 1 in 14 bits each
    size = (11999 << 14 | 11999).to_bytes(4, "little")
    wide = wide[:at] + size + wide[at + 4 :]
    repacked(paths[1], lambda members: members.update({"quats.webp": wide}))
    assert all(path.stat().st_size < 2 << 20 for path in paths)
    code = (
        "import resource, sys; from pathlib import Path; import mmcity.structures as s\n"
        "from PIL import WebPImagePlugin\n"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20),) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try: s.read_gaussian_file(path)\n"
        "    except s.GaussianFileError as error: print('refused', error)"
    )
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and "1000 times" in lines[0], done.stderr
    assert "12000 x 12000" in lines[1]
