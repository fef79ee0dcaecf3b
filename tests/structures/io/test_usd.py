"""USD of Gaussians: what is authored, transforms and axes of others, and what is refused."""

import sys
import zipfile

import numpy as np
import pytest
import torch

from mmcity.structures import (
    GaussianFileError,
    SceneFrame,
    SplatInfo,
    convert_axes,
    read_frame_of,
    read_gaussian_file,
    write_gaussians,
)
from mmcity.utils.dependencies import DependencyError
from tests.structures.io.test_gaussian_formats import rotation_error, scene

FRAME = SceneFrame(crs="EPSG:25832", origin=(452310.0, 5411872.0, 213.0))
PLAIN = """#usda 1.0
(
    upAxis = "{up}"
    {layer}
)
def Xform "world"
{{
    double3 xformOp:translate = (10, 0, 0)
    float3 xformOp:scale = ({scale})
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]
    def ParticleField3DGaussianSplat "a"
    {{
        point3f[] positions = [(1, 2, 3)]
        {more}
        half3[] scalesh = [(0.5, 1, 2)]
        quatf[] orientations = [(0.5, 0.5, -0.5, 0.5)]
        float[] opacities = [0.25]
        uniform int radiance:sphericalHarmonicsDegree = 1
        float3[] radiance:sphericalHarmonicsCoefficients = [(1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, {last})]
    }}
}}
"""  # noqa: E501


@pytest.fixture(autouse=True)
def _usd():
    pytest.importorskip("pxr", reason="usd-core is not installed (requirements/usd.txt)")


def plain(path, up="Z", scale="2, 2, 2", last="1", more="", layer=""):
    path.write_text(PLAIN.format(up=up, scale=scale, last=last, more=more, layer=layer))
    return path


@pytest.mark.parametrize("suffix", ["usda", "usdc", "usd", "usdz"])
def test_all_values_come_back(tmp_path, suffix):
    before = scene(50, degree=3)
    before.frame = FRAME
    path = tmp_path / f"a.{suffix}"
    info = write_gaussians(before, path, info=SplatInfo("antialiased", axes="RFU"))
    assert info.lost == ("antialiased tag dropped",) and info.axes == "RFU"
    after, info = read_gaussian_file(path)
    assert (info.format, info.axes, info.sh_degree) == ("usd", "RFU", 3)
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    assert rotation_error(before, after) < 0.1
    assert after.frame == FRAME == read_frame_of(path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_what_viewers_ask_for_is_authored(tmp_path):
    from pxr import Usd, UsdGeom

    before = scene(20, degree=2)
    write_gaussians(before, tmp_path / "a.usda", up="y")
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    prim = stage.GetDefaultPrim()
    assert prim.GetTypeName() == "ParticleField3DGaussianSplat" and prim.IsDefined()
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1)
    sh = prim.GetAttribute("radiance:sphericalHarmonicsCoefficients")
    assert (sh.GetMetadata("elementSize"), sh.GetMetadata("interpolation")) == (9, "vertex")
    assert len(sh.Get()) == 20 * 9
    assert np.allclose(sh.Get()[9], before.sh0[1, 0])  # Gaussian by Gaussian
    quats = prim.GetAttribute("orientations").Get()
    assert np.allclose(quats[0].real, before.quats[0, 0])
    assert np.allclose([abs(q.GetLength()) for q in quats], 1, atol=1e-6)
    low, high = np.array(prim.GetAttribute("extent").Get())
    assert (low <= before.means.amin(0).numpy()).all()
    assert (high >= before.means.amax(0).numpy()).all()
    known = prim.GetPrimDefinition().GetPropertyNames()
    assert {p.GetName() for p in prim.GetAuthoredProperties()} <= {*known, "primvars:displayColor"}


def test_scenes_with_y_down_are_turned(tmp_path):
    before = scene(20, degree=1)
    write_gaussians(before, tmp_path / "a.usdc", info=SplatInfo(axes="RDF"))
    after, info = read_gaussian_file(tmp_path / "a.usdc")
    wanted = convert_axes(before, "RDF", "RUB")
    assert info.axes == "RUB"
    torch.testing.assert_close(after.means, wanted.means)
    torch.testing.assert_close(after.sh, wanted.sh, rtol=0, atol=1e-5)


def test_parents_place_and_halves_fill_in(tmp_path):
    got, info = read_gaussian_file(plain(tmp_path / "a.usda"))
    assert (info.axes, info.sh_degree) == ("RFU", 1)
    torch.testing.assert_close(got.means, torch.tensor([[12.0, 4, 6]]))
    torch.testing.assert_close(got.scales, torch.tensor([[1.0, 2, 4]]))
    turns = got.quats[0].abs() - 0.5
    assert turns.abs().max() < 1e-6 and got.opacities.tolist() == [0.25]
    torch.testing.assert_close(got.sh[0].double().sum(), torch.tensor(46.0).double())


def test_a_converter_that_guesses_axes_is_not_believed(tmp_path):
    path = plain(tmp_path / "a.usda", up="Y", layer='"""made by gsplat2USD"""')
    text = path.read_text().replace("(\n    upAxis", '(\n    """made by gsplat2USD"""\n    upAxis')
    path.write_text(text.replace('\n    """made by gsplat2USD"""\n)', "\n)"))
    assert read_gaussian_file(path)[1].axes is None


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(scale="1, 2, 1"), "turn, move and scale evenly"),
        (dict(last="nan"), "NaN or infinity"),
        (dict(last="1), (1, 1, 1"), "expected 4 SH coefficients of degree 1"),
        (dict(more="float3[] scales = [(1, 1, 1), (2, 2, 2)]"), "expected 1 scales, got 2"),
        (dict(layer="subLayers = [@/etc/hostname.usda@]"), "leads out of it"),
        (dict(layer="subLayers = [@../../other.usda@]"), "leads out of it"),
    ],
)
def test_broken_files_name_themselves(tmp_path, options, message):
    with pytest.raises(GaussianFileError, match=message) as error:
        read_gaussian_file(plain(tmp_path / "a.usda", **options))
    assert "a.usda" in str(error.value)


def test_other_usd_truncated_files_and_bombs_are_refused(tmp_path):
    path = tmp_path / "a.usda"
    path.write_text('#usda 1.0\ndef Mesh "a" {}\n')
    with pytest.raises(GaussianFileError, match="expected a prim ParticleField3D"):
        read_gaussian_file(path)
    path.write_bytes(b'#usda 1.0\ndef Mesh "a" { int b = \xff\xfe }\n')
    with pytest.raises(GaussianFileError, match="a.usda"):
        read_gaussian_file(path)
    for suffix in ("usdc", "usdz", "usda"):
        path = tmp_path / f"b.{suffix}"
        write_gaussians(scene(20), path)
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(GaussianFileError, match=path.name):
            read_gaussian_file(path)
    with zipfile.ZipFile(tmp_path / "c.usdz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scene.usdc", bytes(100 << 20))
    with pytest.raises(GaussianFileError, match="1000 times"):
        read_gaussian_file(tmp_path / "c.usdz")


def test_without_usd_core_the_way_to_it_is_told(tmp_path, monkeypatch):
    path = plain(tmp_path / "a.usda")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pxr"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(DependencyError, match="pip install usd-core"):
        read_gaussian_file(path)
    with pytest.raises(DependencyError, match="pip install usd-core"):
        write_gaussians(scene(3), tmp_path / "b.usda")
