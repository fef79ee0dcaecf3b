"""Scenes in metres, from positions that are known otherwise."""

import math

import numpy as np
import pytest
import torch

from mmcity.cli.main import dispatch
from mmcity.datasets import ColmapDataset
from mmcity.datasets.alignment import (
    align_positions,
    geodetic_to_enu,
    read_alignment,
    read_positions,
    write_alignment,
)
from mmcity.datasets.io import read_colmap_model
from mmcity.datasets.io.colmap_model import find_colmap_model
from mmcity.structures import Sim3, read_frame
from mmcity.structures.geometry import axis_angle_to_rotmat
from tests.cli.conftest import call_tool
from tests.datasets.scenes import write_scene


def similarity() -> Sim3:
    turn = axis_angle_to_rotmat(torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64))
    return Sim3(torch.tensor(2.5, dtype=torch.float64), turn, torch.tensor([10.0, -4, 3]).double())


def moved(points: np.ndarray) -> np.ndarray:
    s = similarity()
    return 2.5 * points @ s.rotation.numpy().T + s.translation.numpy()


def test_enu_of_known_distances():
    origin = np.array([52.2, 0.12, 20.0])
    # One degree of a meridian has 111.3 km here; the parallel is a circle.
    north, east, up = geodetic_to_enu(origin + np.diag([1e-4, 1e-4, 5.0]), origin)
    np.testing.assert_allclose(north, [0, 11.126, 0], atol=2e-3)
    sine, cosine = math.sin(math.radians(52.2)), math.cos(math.radians(52.2))
    parallel = 6378137 / math.sqrt(1 - 0.00669438 * sine**2) * cosine
    np.testing.assert_allclose(east, [parallel * math.radians(1e-4), 0, 0], atol=1e-3)
    np.testing.assert_allclose(up, [0, 0, 5], atol=1e-6)


def test_wrong_positions_are_found():
    rng = np.random.RandomState(0)
    source = rng.uniform(-5, 5, (40, 3))
    target = moved(source) + rng.normal(0, 0.05, (40, 3))
    target[:12] += rng.uniform(20, 60, (12, 3))
    found, residuals = align_positions(source, target, threshold=1.0)
    assert abs(float(found.scale) - 2.5) < 0.02
    assert (residuals[:12] > 5).all() and (residuals[12:] < 0.5).all()
    with pytest.raises(ValueError, match="at least 3"):
        align_positions(source[:2], target[:2])
    with pytest.raises(ValueError, match="expected three of"):
        align_positions(source[:6], rng.uniform(-90, 90, (6, 3)), threshold=0.01)


def test_file_keeps_the_similarity(tmp_path):
    write_alignment(tmp_path / "a.json", similarity(), np.array([52.0, 0.1, 3.0]))
    again = read_alignment(tmp_path / "a.json")
    assert torch.equal(again.matrix, similarity().matrix)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ValueError, match="b.json"):
        read_alignment(tmp_path / "b.json")


def test_positions_file_must_say_what_it_holds(tmp_path):
    path = tmp_path / "gps.csv"
    path.write_text("name,latitude,longitude,height\na.jpg,52.1,0.1,30\n")
    table, kind = read_positions(path)
    assert kind == "geodetic" and table["a.jpg"].tolist() == [52.1, 0.1, 30]
    path.write_text("name,lat\na.jpg,52\n")
    with pytest.raises(ValueError, match="expected columns"):
        read_positions(path)


@pytest.mark.parametrize(
    "text",
    [
        "name, x, y, z\na b.jpg, 1, 2, 3\n",
        "# of the survey\nname,x,y,z\na b.jpg,1,2,3\n# end\n",
        '\ufeff#Name;X;Y;Z\r\n\r\n"a b.jpg";1;2;3;\r\n;;;\r\n',
        "name\tx\ty\tz\tnote\na b.jpg\t1\t2\t3\n",
    ],
)
def test_tables_of_positions_are_read_as_programs_write_them(tmp_path, text):
    (tmp_path / "gps.csv").write_bytes(text.encode())
    table, kind = read_positions(tmp_path / "gps.csv")
    assert kind == "metric" and {k: v.tolist() for k, v in table.items()} == {"a b.jpg": [1, 2, 3]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x,y,z\na.jpg,1,2,3\na.jpg,4,5,6\n", "several for 'a.jpg'"),
        ("name,x,y,z\nl\\a.jpg,1,2,3\nl/a.jpg,4,5,6\n", "several for 'l/a.jpg'"),
        ("name,x,y,z\na.jpg,1,5,2,5,3,5\n", "line 2: expected 4 cells"),
        ("name,x,y,z\na.jpg,1,2\n", "line 2: expected numbers"),
        ("name;x;y;z\na.jpg;1,5;2;3\n", r"got \['1,5', '2', '3'\]: write them with a point"),
        ("name,x,y,z\n,1,2,3\n", "line 2: expected a name"),
        ("name,x,y,z\n", "the names of the columns alone"),
        ("", "empty file"),
        ("name,latitude,longitude,height\na.jpg,5411872,452310,0\n", "columns x,y,z"),
    ],
)
def test_positions_that_would_be_taken_wrongly_are_refused(tmp_path, text, message):
    (tmp_path / "gps.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_positions(tmp_path / "gps.csv")
    assert "gps.csv" in str(error.value)


def test_command_aligns_a_scene(toytown_citygsx, tmp_path, capsys):
    model = read_colmap_model(find_colmap_model(toytown_citygsx))
    lines = ["name,x,y,z"]
    for image in model.images.values():
        center = -image.viewmat[:3, :3].T @ image.viewmat[:3, 3]
        lines.append(",".join([image.name, *(f"{v:.9f}" for v in moved(center[None])[0])]))
    (tmp_path / "known.csv").write_text("\n".join(lines) + "\n")
    words = [toytown_citygsx, "--positions", tmp_path / "known.csv"]
    call_tool("tools/dataset_converters/align_scene.py", *words, "--out", tmp_path / "out.json")
    assert "8 of 8 positions agree within 10 m, rms 0.000 m" in capsys.readouterr().out
    assert torch.allclose(read_alignment(tmp_path / "out.json").matrix, similarity().matrix)
    frame = read_frame(tmp_path)
    assert not frame.crs and torch.allclose(frame.similarity.matrix, similarity().matrix)
    # Names that the scene does not have are told, with some that it has.
    (tmp_path / "odd.csv").write_text("name,x,y,z\nodd.jpg,1,2,3\n")
    with pytest.raises(ValueError, match=r"odd\.csv: expected at least 3 names .*, got 0 of 1"):
        dispatch(
            ["data", "align-scene", str(toytown_citygsx), "--positions", str(tmp_path / "odd.csv")]
        )


def test_the_frame_of_a_geographic_alignment_has_its_place_on_earth(tmp_path):
    model = write_scene(tmp_path)
    place, names = np.array([48.5, 8.25, 310.0]), []
    lines = ["name,latitude,longitude,height"]
    for image in model.images.values():
        east, north, up = -image.viewmat[:3, :3].T @ image.viewmat[:3, 3]
        # Metres per degree at that latitude, by differences of the exact conversion.
        step = geodetic_to_enu(place + np.diag([1e-5, 1e-5, 0]), place)
        shift = np.linalg.solve(step[:2, [1, 0]].T, [north, east]) * 1e-5
        lines.append(",".join([image.name, *(f"{v:.12f}" for v in place + [*shift, up])]))
        names.append(image.name)
    (tmp_path / "gps.csv").write_text("\n".join(lines) + "\n")
    dispatch(["data", "align-scene", str(tmp_path), "--positions", str(tmp_path / "gps.csv")])
    frame = read_frame(tmp_path)
    assert frame.crs == "ENU" and frame.scale == pytest.approx(1, abs=1e-3)
    dataset = ColmapDataset(tmp_path, split="all")
    assert dataset.frame == frame
    # The mean of the known positions is the zero of the world.
    middle = frame.scene_to_world(dataset.cameras.centers.double().mean(0))
    np.testing.assert_allclose(middle, 0, atol=1e-3)
    np.testing.assert_allclose(frame.lla, place + [0, 0, 1.5], atol=1e-5)
