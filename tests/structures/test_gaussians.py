"""Gaussians: files, similarity transforms, refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plyfile import PlyData

from mmcity.structures import GaussianFileError, Gaussians, Sim3, rotate_sh
from mmcity.structures import geometry as geo


def make_gaussians(count=7, degree=2, seed=0, features=0):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.rand(count, 3, generator=g) + 0.01,
        opacities=torch.rand(count, generator=g) * 0.9 + 0.05,
        sh0=torch.randn(count, 1, 3, generator=g),
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g),
        features=torch.randn(count, features, generator=g) if features else None,
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_ply_round_trip(tmp_path, degree):
    scene = make_gaussians(degree=degree, features=2)
    scene.write_ply(tmp_path / "a.ply")
    back = Gaussians.read_ply(tmp_path / "a.ply")
    assert back.sh_degree == degree
    for name in Gaussians._row_fields:
        torch.testing.assert_close(getattr(back, name), getattr(scene, name))


def test_ply_holds_the_values_before_activation_channel_by_channel(tmp_path):
    scene = make_gaussians(degree=1)
    scene.write_ply(tmp_path / "a.ply")
    vertex = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    names = [p.name for p in vertex.properties]
    rest = [f"f_rest_{i}" for i in range(9)]
    dc, scale, rot = (
        [f"{n}_{i}" for i in range(k)] for n, k in (("f_dc", 3), ("scale", 3), ("rot", 4))
    )
    assert names == ["x", "y", "z", "nx", "ny", "nz", *dc, *rest, "opacity", *scale, *rot]
    row = vertex[2]
    assert row["scale_1"] == pytest.approx(math.log(scene.scales[2, 1]))
    p = float(scene.opacities[2])
    assert row["opacity"] == pytest.approx(math.log(p / (1 - p)), rel=1e-4)
    # f_rest_3 is the first coefficient of green, f_rest_2 the third of red.
    assert row["f_rest_3"] == pytest.approx(float(scene.shN[2, 0, 1]))
    assert row["f_rest_2"] == pytest.approx(float(scene.shN[2, 2, 0]))


def test_splat_rows_are_sorted_by_visibility(tmp_path):
    scene = make_gaussians()
    scene.write_splat(tmp_path / "a.splat")
    raw = np.frombuffer((tmp_path / "a.splat").read_bytes(), np.uint8).reshape(-1, 32)
    best = int((scene.scales.prod(1) * scene.opacities).argmax())
    assert len(raw) == len(scene)
    np.testing.assert_array_equal(raw[0, :12].view("<f4"), scene.means[best].numpy())
    assert raw[0, 27] == round(float(scene.opacities[best]) * 255)
    quat = (raw[0, 28:].astype(float) - 128) / 128
    expected = scene.quats[best] / scene.quats[best].norm()
    np.testing.assert_allclose(quat, expected, atol=1 / 128)


def basis_degree_2(d):
    """Constant, linear and quadratic real SH as 3DGS writes them out."""
    x, y, z = d.unbind(-1)
    one = torch.ones_like(x)
    return torch.stack(
        [
            0.28209479177387814 * one,
            *(-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x),
            *(1.0925484305920792 * x * y, -1.0925484305920792 * y * z),
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            *(-1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y)),
        ],
        -1,
    )


def test_sh_rotation_turns_the_function():
    R = geo.quat_to_rotmat(torch.tensor([0.2, 0.7, -0.4, 0.5], dtype=torch.float64))
    coefficients = torch.randn(9, 3, dtype=torch.float64)
    d = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    turned = basis_degree_2(d) @ rotate_sh(coefficients, R)
    torch.testing.assert_close(turned, basis_degree_2(d @ R) @ coefficients)


def test_sh_rotations_compose_at_degree_4():
    Ra, Rb = geo.quat_to_rotmat(torch.randn(2, 4, dtype=torch.float64))
    coefficients = torch.randn(25, 1, dtype=torch.float64)
    torch.testing.assert_close(
        rotate_sh(rotate_sh(coefficients, Rb), Ra), rotate_sh(coefficients, Ra @ Rb)
    )


def test_transform_carries_shapes():
    scene = make_gaussians().to(torch.float64)
    sim = Sim3(2.0, geo.quat_to_rotmat(torch.tensor([0.5, 0.1, -0.3, 0.7]).double()), torch.ones(3))
    moved = scene.transform(sim)
    torch.testing.assert_close(moved.means, sim(scene.means))
    expected = 4 * sim.rotation @ scene.covariances @ sim.rotation.T
    torch.testing.assert_close(moved.covariances, expected)
    back = moved.transform(sim.inverse())
    torch.testing.assert_close(back.sh, scene.sh)
    torch.testing.assert_close(moved.sh0, scene.sh0)


def test_indexing_and_concatenation():
    scene = make_gaussians()
    assert len(scene[2]) == 1 and len(scene[1:4]) == 3
    again = Gaussians.cat([scene[:3], scene[3:]])
    torch.testing.assert_close(again.shN, scene.shN)
    with pytest.raises(ValueError, match="shN"):
        Gaussians.cat([scene, make_gaussians(degree=1)])
    with pytest.raises(IndexError, match="mask"):
        scene[torch.ones(3, dtype=torch.bool)]


def test_wrong_shapes_name_the_argument():
    scene = make_gaussians()
    with pytest.raises(ValueError, match=r"scales: expected shape \(7, 3\), got \(7, 2\)"):
        Gaussians(scene.means, scene.quats, scene.scales[:, :2], scene.opacities)


def test_opaque_and_flat_gaussians_survive_a_file(tmp_path):
    scene = make_gaussians()
    scene.opacities[:2] = torch.tensor([0.0, 1.0])
    scene.scales[0, 2] = 0
    scene.write_ply(tmp_path / "a.ply")
    back = Gaussians.read_ply(tmp_path / "a.ply")
    torch.testing.assert_close(back.opacities, scene.opacities, atol=2e-7, rtol=0)
    assert bool(back.is_finite.all()) and float(back.scales[0, 2]) < 1e-30


def test_broken_files_give_one_error(tmp_path):
    path = tmp_path / "a.ply"
    make_gaussians().write_ply(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(GaussianFileError, match=r"a\.ply"):
        Gaussians.read_ply(path)
    path.write_bytes(whole.replace(b"vertex 7", b"vertex 999999999999"))
    with pytest.raises(GaussianFileError, match="truncated or corrupt"):
        Gaussians.read_ply(path)
    path.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    with pytest.raises(GaussianFileError, match="expected the vertex properties"):
        Gaussians.read_ply(path)
    scene = make_gaussians()
    scene.means[3, 0] = float("nan")
    scene.write_ply(path)
    with pytest.raises(GaussianFileError, match="1 of 7 .* row 3"):
        Gaussians.read_ply(path)
    with pytest.raises(FileNotFoundError):
        Gaussians.read_ply(tmp_path / "none.ply")


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_mutated_files_read_or_give_the_documented_error(tmp_path, data):
    path = tmp_path / "a.ply"
    make_gaussians(count=2, degree=0).write_ply(path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    Path(path).write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        Gaussians.read_ply(path)
    except GaussianFileError as error:
        assert str(path) in str(error)
