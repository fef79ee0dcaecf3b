"""glTF files of other programs against what they hold."""

import numpy as np
import pytest

from mmcity.structures import read_gaussian_file
from mmcity.utils.fileio import read_json
from tests.conftest import golden_dir

FOLDER = golden_dir("interchange")
ENTRIES = [e for e in read_json(FOLDER / "manifest.json") if e["file"].startswith("glb/")]


def differences(got, want) -> dict[str, float]:
    """Largest ones, as the README of the files compares: a Gaussian has four rotations."""
    p = got.quats.double().numpy()
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    q = want["quats"].astype(np.float64)
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    twins = np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])
    cosine = np.abs(np.einsum("nc,tcn->tn", p, twins)).max(0).clip(0, 1)
    logs = [np.log(np.maximum(s, 1e-30)) for s in (got.scales.double().numpy(), want["scales"])]
    return {
        "means": np.abs(got.means.double().numpy() - want["means"]).max(),
        "rot_deg": np.degrees(2 * np.arccos(cosine)).max(),
        "log_scale": np.abs(logs[0] - logs[1]).max(),
        "opacity": np.abs(got.opacities.numpy() - want["opacities"]).max(),
        "sh0": np.abs(got.sh0.numpy() - want["sh0"]).max(),
        "shN": np.abs(got.shN.numpy() - want["shN"]).max(initial=0),
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_gltf_of_others(entry):
    gaussians, info = read_gaussian_file(FOLDER / entry["file"])
    with np.load(FOLDER / entry["expected"]) as want:
        assert gaussians.shN.shape == want["shN"].shape
        found = differences(gaussians, dict(want))
    tolerance = entry["tolerance"]
    assert {name: found[name] for name in found if found[name] > tolerance[name]} == {}
    assert (info.model, info.axes) == (entry["model"], "RUB")
