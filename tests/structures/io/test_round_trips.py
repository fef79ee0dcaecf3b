"""Scenes from each format to each other: what comes back, and what is told as lost.

A format that is new in the table of formats needs a row here.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from mmcity.structures import (
    WRITABLE_SUFFIXES,
    Gaussians,
    SplatInfo,
    read_gaussian_file,
    write_gaussians,
)
from mmcity.structures.io.gaussian_files import FORMATS
from tests.parity.test_interchange import FIELDS, differences


@dataclass(frozen=True)
class Row:
    """Largest errors of one write, and what a format holds.

    Attributes:
        means: Units, of a scene that reaches 10 of them.
        rot_deg, log_scale, opacity, sh0, shN: As the comparison names them.
        degree: Highest of SH.
        tag: Whether it names the antialiased renderer.
        axes: Whether it says its axes.
        features: Whether it holds features.
        again: Whether a second write of what was read gives the same values: ``exact``, ``close``.
    """

    means: float = 1e-6
    rot_deg: float = 0.03  # of comparing float32
    log_scale: float = 1e-5
    opacity: float = 1e-6
    sh0: float = 1e-6
    shN: float = 1e-6
    degree: int = 3
    tag: bool = True
    axes: bool = False
    features: bool = False
    again: str = "close"


SPAN, LOGS = 20.0, 3.0  # of the scene's positions and logarithms of scales
_PACKED = dict(
    means=SPAN / 2046, rot_deg=0.21, log_scale=LOGS / 2046, opacity=0.002, sh0=1.5 / 510 / 0.2820,
    shN=0.0157, again="exact",
)  # fmt: skip
_SPZ = dict(
    means=2**-13, rot_deg=0.21, log_scale=0.032, opacity=0.002, sh0=0.0131, shN=0.067,
    again="exact",
)  # fmt: skip
_SOG = dict(means=5e-4, rot_deg=0.8, log_scale=0.03, opacity=0.002, sh0=0.03, shN=0.03)
_USD = dict(rot_deg=0.03, tag=False, axes=True)
ROWS = {
    ".ply": Row(degree=4, features=True),
    ".compressed.ply": Row(**_PACKED),
    ".spz": Row(**_SPZ, degree=4, axes=True),
    ".sog": Row(**_SOG),
    ".splat": Row(rot_deg=1.0, opacity=0.002, sh0=0.00700, degree=0, tag=False, again="exact"),
    ".glb": Row(means=2e-6, axes=True),
    ".usda": Row(**_USD),
    ".usdc": Row(**_USD),
    ".usdz": Row(**_USD),
}
SUFFIXES = [suffix for suffix in WRITABLE_SUFFIXES if suffix != ".usd"]
PAIRS = list(itertools.product(SUFFIXES, SUFFIXES))


def scene(degree: int = 3, count: int = 60) -> Gaussians:
    """Gaussians that stand apart, with colours that every format holds."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 4)] * 3), -1).reshape(-1, 3)[:count]
    rows = (degree + 1) ** 2 - 1
    return Gaussians(
        *map(
            torch.from_numpy,
            (
                (grid + rng.uniform(-2, 2, grid.shape)).astype(np.float32),
                rng.normal(size=(count, 4)).astype(np.float32),
                np.exp(rng.uniform(-LOGS, 0, (count, 3))).astype(np.float32),
                rng.uniform(0.05, 0.95, count).astype(np.float32),
                rng.uniform(-1.5, 1.5, (count, 1, 3)).astype(np.float32),
                rng.uniform(-0.4, 0.4, (count, rows, 3)).astype(np.float32),
            ),
        )
    )


def through(gaussians, path, info=None):
    """What a format holds of Gaussians."""
    if path.name.endswith((".usda", ".usdc", ".usdz")):
        pytest.importorskip("pxr", reason="usd-core is not installed")
    said = write_gaussians(gaussians, path, info=info)
    return (*read_gaussian_file(path), said)


def arrays(gaussians, like=None) -> dict[str, np.ndarray]:
    """Their arrays, in the order of others whose places are the same."""
    out = {name: getattr(gaussians, name).numpy() for name in FIELDS}
    if like is not None:
        _, rows = cKDTree(out["means"]).query(like["means"])
        assert len(set(rows)) == len(rows)
        out = {name: values[rows] for name, values in out.items()}
    return out


def bounds(*rows: Row) -> dict[str, float]:
    names = ("means", "rot_deg", "log_scale", "opacity", "sh0", "shN")
    return {name: sum(getattr(row, name) for row in rows) for name in names}


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-to-".join(pair) for pair in PAIRS])
def test_a_scene_through_two_formats(tmp_path, first, second):
    rows = ROWS[first], ROWS[second]
    degree = min(row.degree for row in rows)
    known = SplatInfo(model="antialiased", axes="RFU")

    once, info, _ = through(scene(degree), tmp_path / f"a{first}", known)
    twice, info, said = through(once, tmp_path / f"b{second}", info)
    plain, info, _ = through(twice, tmp_path / "c.ply", info)
    direct, _, _ = through(scene(degree), tmp_path / "d.ply")

    want = arrays(direct)
    found, most = differences(arrays(plain, want), want), bounds(*rows, ROWS[".ply"])
    assert {name: value for name, value in found.items() if value > most[name]} == {}, most
    assert info.model == ("antialiased" if all(row.tag for row in rows) else "default")
    assert said.model == info.model


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_losses_are_told(tmp_path, suffix):
    row, rich = ROWS[suffix], scene(degree=4)
    rich.features = torch.ones(len(rich), 2)

    again, info, said = through(
        rich, tmp_path / f"a{suffix}", SplatInfo(model="antialiased", axes="RFU")
    )

    lost = set(said.lost)
    assert (f"SH cut from degree 4 to {row.degree}" in lost) == (row.degree < 4)
    assert ("antialiased tag dropped" in lost) == (not row.tag)
    assert ("features dropped" in lost) == (not row.features) == (again.features is None)
    assert ("axes RFU not said" in lost) == (not row.axes)
    assert info.axes == ("RFU" if row.axes else None)
    assert info.sh_degree == again.sh_degree == row.degree == said.sh_degree
    assert info.format == said.format and not info.lost


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_write_loses_nothing_more(tmp_path, suffix):
    row = ROWS[suffix]
    once, info, _ = through(scene(min(row.degree, 3)), tmp_path / f"a{suffix}")
    twice, _, _ = through(once, tmp_path / f"b{suffix}", info)

    first = arrays(once)
    again = arrays(twice, first)
    if row.again == "exact":
        for name in FIELDS:
            assert np.array_equal(first[name], again[name]), name
    else:
        found, most = differences(again, first), bounds(row)
        assert {name: value for name, value in found.items() if value > most[name]} == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_no_format_holds_is_refused(tmp_path, suffix):
    broken = scene()
    broken.sh0[3] = float("nan")
    for bad in [broken, scene()[:0]]:
        if suffix == ".ply":
            break
        with pytest.raises(ValueError, match=rf"a\{suffix}"):
            through(bad, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_every_format_has_a_row():
    written = {suffix for form in FORMATS if form.write for suffix in form.suffixes}
    assert {suffix for suffix in written if suffix.startswith(".")} - {".usd"} <= {*ROWS}
