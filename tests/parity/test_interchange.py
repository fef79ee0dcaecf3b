"""Files of Gaussians that other programs wrote against what they hold."""

import os

import numpy as np
import pytest

from mmcity.structures import read_gaussian_file
from mmcity.utils.fileio import read_json
from tests.conftest import golden_dir

FOLDER = golden_dir("interchange")
#: Files of voxels, which are no Gaussians, have a test of their own.
ENTRIES = [
    entry
    for entry in read_json(FOLDER / "manifest.json")
    if not entry["file"].startswith("voxels/")
]
FIELDS = ("means", "quats", "scales", "opacities", "sh0", "shN")


def differences(got, want) -> dict[str, float]:
    """Largest ones of arrays by name; a Gaussian has four rotations, up to half turns."""
    p, q = (a["quats"].astype(np.float64) for a in (got, want))
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    twins = np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])
    cosine = np.abs(np.einsum("nc,tcn->tn", p, twins)).max(0).clip(0, 1)
    logs = [np.log(np.maximum(a["scales"].astype(np.float64), 1e-30)) for a in (got, want)]

    def largest(name):
        return float(np.abs(got[name].astype(np.float64) - want[name]).max(initial=0))

    return {
        "means": largest("means"),
        "rot_deg": float(np.degrees(2 * np.arccos(cosine)).max()),
        "log_scale": float(np.abs(logs[0] - logs[1]).max()),
        "opacity": largest("opacities"),
        "sh0": largest("sh0"),
        "shN": largest("shN"),
    }


def options_of(entry) -> dict:
    """How to read an entry: its level of detail, and its axes where the file may not say them."""
    options = {"lod": entry["lod"]} if entry.get("lod") else {}
    axes, _, told = entry["frame"].partition(" on disk; expected in ")
    return {**options, **(dict(assume=axes.upper(), to="RDF") if told else {})}


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: f"{entry['file']}-{entry.get('lod', 0)}"
)
def test_files_of_others(entry):
    name = entry["file"]
    if name.startswith("usd/"):
        pytest.importorskip("pxr", reason="usd-core is not installed")

    gaussians, info = read_gaussian_file(FOLDER / name, **options_of(entry))

    got = {field: getattr(gaussians, field).numpy() for field in FIELDS}
    with np.load(FOLDER / entry["expected"]) as stored:
        want = {field: stored[field] for field in FIELDS}
    if name.startswith("spz/") and name.endswith("_d4.spz"):
        # The program that made it negates this one, and should not.
        assert np.abs(got["shN"][:, 23] + want["shN"][:, 23]).max() < 1e-4
        got["shN"], want["shN"] = got["shN"][:, :23], want["shN"][:, :23]
    assert {field: got[field].shape for field in FIELDS} == {f: want[f].shape for f in FIELDS}
    found, most = differences(got, want), entry["tolerance"]
    bad = {
        key: value for key, value in found.items() if most[key] is not None and value > most[key]
    }
    assert not bad, f"{name}: {bad} beyond {most}"
    assert info.model == entry.get("model", "default")
    if name.startswith("glb/"):
        assert info.axes == "RUB"
    if "extension 0xADBE0003" in entry["note"]:
        assert read_gaussian_file(FOLDER / name, to="RDF")[1].axes == "RDF"
    if "extension 0xADBE0002" in entry["note"]:
        assert info.extras["safe_orbit"] == (-0.5, 0.75, 1.25)
    if info.model == "2dgs":
        assert (got["scales"][:, 2] == 0).all()


def test_all_kinds_of_files_are_there():
    folders = {entry["file"].split("/")[0] for entry in ENTRIES}
    assert folders >= {"ply", "spz", "sog", "splat", "glb", "usd"} or "MMCITY_GOLDEN" in os.environ
