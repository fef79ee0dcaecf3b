"""The chain: what is run again and what is not, its report, and the pieces between stages."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.structures import Cameras, Gaussians, Sim3, VoxelGrid, write_voxel_grid
from mmcity.structures.geometry import rotmat_to_quat
from mmcity.utils.cli import UserError
from mmcity.workflow import STAGES, handover_table, write_report
from mmcity.workflow.city_twin.future import OccupancyFuture, find_street
from mmcity.workflow.city_twin.occupancy import (
    OccupancyFromGaussians,
    vote_labels,
    voxelize_gaussians,
)
from mmcity.workflow.city_twin.poses import transform_model
from mmcity.workflow.manifest import Manifest
from projects.city_twin import Chain, Finding, Stage
from tests.cli.conftest import REPO, call_tool
from tests.datasets.scenes import write_scene

RUNS: list[str] = []


@STAGES.register_module(force=True)
class WriteNumber(Stage):
    """Writes a number; breaks off as long as ``breaks`` says so."""

    breaks = False

    def __init__(self, number: int, config: str | None = None) -> None:
        self.number, self.config = number, config

    def run(self, context):
        RUNS.append(context.name)
        half = context.folder / "half.txt"
        if not half.is_file():
            half.write_text("begun")
            if WriteNumber.breaks:
                raise RuntimeError("killed")
        (context.folder / "number.txt").write_text(str(self.number))
        return {"number": context.folder / "number.txt"}


@STAGES.register_module(force=True)
class DoubleNumber(Stage):
    """Takes the number of the stage before."""

    needs = ("first",)

    def run(self, context):
        RUNS.append(context.name)
        number = int(context.artefact("first", "number").read_text())
        (context.folder / "double.txt").write_text(str(2 * number))
        return {"double": context.folder / "double.txt"}

    def check(self, context):
        value = float(context.artefact(context.name, "double").read_text())
        return [Finding("double", value, "m", "arithmetic")]


@pytest.fixture
def chain(tmp_path):
    RUNS.clear()
    WriteNumber.breaks = False

    def make(number: int = 3, **changes) -> Chain:
        stages = {"first": dict(type="WriteNumber", number=number), "second": dict(
            type="DoubleNumber")}  # fmt: skip
        return Chain({**stages, **changes}, tmp_path)

    return make


def test_finished_stages_are_left_alone(chain):
    chain().run()
    assert RUNS == ["first", "second"]
    chain().run()
    assert RUNS == ["first", "second"]
    assert "| second | double | 6 m   | arithmetic |" in handover_table(chain().manifest)


def test_settings_force_and_lost_files_run_what_depends_on_them(chain, tmp_path):
    chain().run()
    chain(number=4).run()
    assert RUNS[2:] == ["first", "second"]
    chain(number=4).run(force=["second"])
    assert RUNS[4:] == ["second"]
    chain(number=4).run(force=["first"])
    assert RUNS[5:] == ["first", "second"]
    (tmp_path / "second" / "double.txt").unlink()
    chain(number=4).run()
    assert RUNS[7:] == ["second"]


def test_a_changed_training_config_runs_its_stage_anew(chain, tmp_path):
    config = tmp_path / "training.py"
    config.write_text("max_iters = 5\n")
    first = dict(type="WriteNumber", number=3, config=str(config))
    chain(first=first).run()
    chain(first=first).run()
    assert RUNS == ["first", "second"]
    config.write_text("max_iters = 6\n")
    chain(first=first).run()
    assert RUNS == ["first", "second"] * 2


def test_a_stage_that_broke_off_goes_on_in_its_folder(chain, tmp_path):
    WriteNumber.breaks = True
    with pytest.raises(RuntimeError, match="killed"):
        chain().run()
    record = chain().manifest.stages["first"]
    assert record.status == "failed" and "killed" in record.message
    chain().run()  # the half-finished file is still there, so that it passes now
    assert RUNS == ["first", "first", "second"]
    assert chain().manifest.stages["second"].status == "done"


@pytest.fixture
def number(tmp_path):
    return lambda: (tmp_path / "first" / "number.txt").read_text()


def test_results_stay_until_those_of_other_settings_are_done(chain, number, tmp_path):
    """Formerly the earlier results went before the new run had anything."""
    chain().run()
    (tmp_path / "first" / "half.txt").unlink()
    WriteNumber.breaks = True
    with pytest.raises(RuntimeError, match="killed"):
        chain(number=4).run()
    assert (tmp_path / ".first.before" / "number.txt").read_text() == "3"

    RUNS.clear()
    chain().run()  # the earlier settings again: nothing was lost
    assert RUNS == [] and number() == "3"
    assert not (tmp_path / ".first.before").exists()

    WriteNumber.breaks = False
    chain(number=4).run()
    assert RUNS == ["first", "second"] and number() == "4"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["first", "second"]


@pytest.mark.parametrize("point", ["rename", "save", "mkdir"])
def test_a_kill_while_results_move_aside_loses_nothing(chain, number, tmp_path, point):
    """Killed after the move, after the record of it, and before the new folder is made."""
    chain().run()
    one = chain(number=4)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if point == "rename":
            patch.setattr(Manifest, "save", killed)
        elif point == "save":
            patch.setattr(Path, "mkdir", killed)
        else:
            patch.setattr(Chain, "_run", killed)
        with pytest.raises(KeyboardInterrupt):
            one.run()
    RUNS.clear()
    chain().run()
    assert RUNS == [] and number() == "3"
    chain(number=4).run()
    assert RUNS == ["first", "second"] and number() == "4"


def test_a_forced_run_that_was_killed_goes_on(chain, tmp_path):
    chain().run()
    (tmp_path / "first" / "half.txt").unlink()
    WriteNumber.breaks = True
    with pytest.raises(RuntimeError, match="killed"):
        chain().run(force=["first"])
    chain().run()
    assert RUNS == ["first", "second", "first", "first", "second"]


def test_stages_that_took_minutes_run_anew_only_by_force(chain, number, monkeypatch):
    chain().run()
    monkeypatch.setattr("mmcity.workflow.chain.COSTLY", 0.0)
    with pytest.raises(UserError, match=r"/first: expected the settings .*--force first"):
        chain(number=4).run()
    assert number() == "3" and RUNS == ["first", "second"]
    chain(number=4).run(force=["first"])  # what takes from it follows
    assert number() == "4" and RUNS == ["first", "second"] * 2
    chain(number=4).run()
    assert RUNS == ["first", "second"] * 2


def test_a_finished_stage_that_was_left_out_once_is_still_finished(chain):
    chain().run()
    chain().run(skip=["first"])
    chain().run()
    assert RUNS == ["first", "second"]


def test_two_chains_in_one_folder_are_refused(chain, tmp_path):
    code = (
        "import sys, time; from mmcity.utils.work_lock import work_lock\n"
        "with work_lock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"expected no other run .* process {other.pid} on"):
            chain().run()
        assert RUNS == []
        other.kill()  # its lock goes with it, though the file is still there
    chain().run()
    assert RUNS == ["first", "second"]


def test_skip_and_until(chain):
    chain().run(until="first")
    assert RUNS == ["first"]
    one = chain()
    one.run(skip=["first"])
    assert {name: row.status for name, row in one.manifest.stages.items()} == {
        "first": "skipped", "second": "skipped",
    }  # fmt: skip
    with pytest.raises(UserError, match="no stage 'third'"):
        chain().run(skip=["third"])


def test_a_stage_must_come_after_what_it_needs(tmp_path):
    with pytest.raises(UserError, match="first"):
        Chain({"second": dict(type="DoubleNumber")}, tmp_path)


def test_report_holds_the_table_and_states(chain, tmp_path):
    one = chain()
    one.run()
    page = write_report(one.manifest, "test").read_text()
    assert "double" in page and "6 m" in page and "arithmetic" in page
    assert "6 m" in (tmp_path / "report.md").read_text()


def test_report_begins_with_what_was_made_how_good_it_is_and_what_is_weak(chain, tmp_path):
    one = chain()
    one.run()
    first, second = one.manifest.stages.values()
    first.findings = [
        Finding("trajectory error", 28.0, "m", "exact poses", (2.0, 10.0)),
        Finding("PSNR", 27.0, "dB", "photographs", (25.0, 18.0)),
        Finding("SSIM", 0.7, "", "photographs", (0.8, 0.6)),
        Finding("triangles", 12.0),
    ]
    second.status, second.message = "failed", "no light"
    Image.new("RGB", (4, 4)).save(tmp_path / "first" / "street.png")
    first.artefacts["occupancy"] = ("first/street.png", -1)
    one.manifest.save()
    read_again = Manifest(tmp_path)
    page = write_report(read_again, "town").read_text()
    assert [f.verdict for f in read_again.stages["first"].findings] == ["weak", "good", "fair", ""]
    made, good, weak, *_ = (tmp_path / "report.md").read_text().split("\n\n")
    assert made == "Made: First; not: Second (failed)."
    assert good == "Good: 1 of 3 figures that are judged (First: PSNR 27 dB)."
    assert weak == "Weak: First: trajectory error 28 m."
    assert page.index(weak) < page.index("<h2>Stages</h2>")
    assert f"mmcity viewer {tmp_path}" in page and "href='first/street.png'" in page
    assert "vegetation" in page and "class=legend" in page  # what the colours mean
    assert page.count("Weak: trajectory error 28 m") == 1  # beside the pictures of the stage


def test_counts_are_written_in_full(chain):
    one = chain()
    one.run()
    one.manifest.stages["first"].findings = [
        Finding("triangles", 229610.0),
        Finding("PSNR", 19.2478),
    ]
    table = handover_table(one.manifest)
    assert "| 229,610 |" in table and "| 19.25 " in table


def test_a_killed_process_goes_on(tmp_path):
    """A process killed in a stage leaves a manifest from which the next one goes on."""
    script = tmp_path / "chain.py"
    script.write_text(
        "import os, signal\n"
        "from tests.workflow.test_city_twin import *\n"
        "class Kill(WriteNumber):\n"
        "    def run(self, context):\n"
        "        mark = context.folder / 'mark'\n"
        "        if not mark.exists():\n"
        "            mark.write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().run(context)\n"
        "STAGES.register_module(module=Kill)\n"
        f"Chain({{'first': dict(type='Kill', number=5), 'second': dict(type='DoubleNumber')}},"
        f" {str(tmp_path / 'work')!r}).run()\n"
    )
    command = [sys.executable, str(script)]
    env = {**os.environ, "PYTHONPATH": f"{REPO}:{REPO}/.dev", "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, env=env, cwd=REPO).returncode == -9
    states = json.loads((tmp_path / "work" / "manifest.json").read_text())["stages"]
    assert states["first"]["status"] == "running"
    done = subprocess.run(command, env=env, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "first: going on" in done.stdout
    assert (tmp_path / "work" / "second" / "double.txt").read_text() == "10"


def test_list_of_the_toytown_config(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(REPO)
    config = "projects/city_twin/configs/toytown_cpu.py"
    call_tool("projects/city_twin/run.py", config, "--list", "--work-dir", tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" -")]
    assert [line.split()[0] for line in lines] == [
        "images", "stream_model", "geometry", "poses", "reconstruction", "mesh", "baked",
        "pose_network", "localization", "occupancy", "future_model", "future", "tour",
    ]  # fmt: skip


def test_moving_a_model_moves_its_pictures_along(tmp_path):
    before = write_scene(tmp_path / "scene")
    after = read_colmap_model(tmp_path / "scene" / "sparse" / "0")
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    transform_model(after, Sim3(2.0, turn, torch.tensor([10.0, 0, 0], dtype=torch.float64)))
    for number, image in before.images.items():
        old = before.points3D.xyz @ image.viewmat[:3, :3].T + image.viewmat[:3, 3]
        view = after.images[number].viewmat
        new = after.points3D.xyz @ view[:3, :3].T + view[:3, 3]
        assert np.allclose(new, 2 * old, atol=1e-9)


@STAGES.register_module(force=True)
class FakeGeometry(Stage):
    """Stands for a streaming network: hands over a model as it is."""

    needs = ("images",)

    def __init__(self, sparse: str) -> None:
        self.sparse = sparse

    def run(self, context):
        return {"sparse": Path(self.sparse)}


@pytest.mark.parametrize("measured", [False, True])
def test_streamed_poses_become_metric_by_known_positions(tmp_path, measured):
    """The network's frame is turned, moved and a quarter of the size; positions undo it."""
    exact = write_scene(tmp_path / "capture")
    estimate = read_colmap_model(tmp_path / "capture" / "sparse" / "0")
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    transform_model(estimate, Sim3(0.25, turn, torch.tensor([3.0, 2, 1], dtype=torch.float64)))
    write_colmap_model(estimate, tmp_path / "estimate")
    centers = {i.name: np.linalg.inv(i.viewmat)[:3, 3] for i in exact.images.values()}
    rows = [",".join([name, *map(repr, xyz.tolist())]) for name, xyz in centers.items()]
    (tmp_path / "positions.csv").write_text("\n".join(["name,x,y,z", *rows]) + "\n")
    poses = dict(type="StreamedPoses")
    if measured:
        poses["positions"] = str(tmp_path / "positions.csv")
    stages = {
        "images": dict(type="FolderImages", path=str(tmp_path / "capture")),
        "geometry": dict(type="FakeGeometry", sparse=str(tmp_path / "estimate")),
        "poses": poses,
    }
    Chain(stages, tmp_path / "work").run()
    scene = tmp_path / "work" / "poses" / "scene"
    found = read_colmap_model(scene / "sparse" / "0")
    wanted = exact if measured else estimate
    for number, image in wanted.images.items():
        assert np.allclose(found.images[number].viewmat, image.viewmat, atol=1e-6)
    assert np.allclose(found.points3D.xyz, wanted.points3D.xyz, atol=1e-6)
    pictures = {file.name for file in (scene / "train" / "rgbs").iterdir()}
    assert pictures == set(centers)


@pytest.mark.parametrize("poses", ["GivenPoses", "StreamedPoses", "StructureFromMotion"])
def test_poses_are_a_switch_of_the_config(tmp_path, monkeypatch, poses):
    """Given, of the streaming network, or of structure from motion."""
    from mmcity.engine.config_options import parse_options
    from mmcity.engine.launch import load_config

    monkeypatch.chdir(REPO)
    path = REPO / "projects" / "city_twin" / "configs" / "toytown_cpu.py"
    cfg = load_config(path, parse_options([f"stages.poses.type={poses}"]))
    chain = Chain(cfg.stages.to_dict(), tmp_path)
    assert type(chain.stages["poses"]).__name__ == poses
    assert chain.stages["reconstruction"].needs == ("poses",)


def test_structure_from_motion_of_a_toy_town(tmp_path):
    """A small survey's poses, from its pictures and positions that are off by 0.2 m."""
    pytest.importorskip("pycolmap", reason="needs requirements/mapping.txt")
    stages = {
        "images": dict(type="ToytownImages", seed=7, num_images=12, image_size=(320, 240),
                       num_points=200, workers=1),
        "poses": dict(type="StructureFromMotion", position_noise=0.2),
    }  # fmt: skip
    chain = Chain(stages, tmp_path)
    chain.run()
    findings = {f.what: f.value for f in chain.manifest.stages["poses"].findings}
    assert findings["posed images"] == 12
    assert findings["median position error"] < 0.5  # m
    assert findings["median rotation error"] < 0.5  # degrees


def test_votes_come_from_visible_gaussians_only():
    """Two walls behind each other: the far one takes the class of its seen neighbour."""
    means = torch.tensor([[0.0, 0, 5], [0.0, 0, 9], [3.0, 0, 9]])
    scene = Gaussians(
        means=means, quats=torch.tensor([1.0, 0, 0, 0]).expand(3, 4),
        scales=torch.full((3, 3), 0.1), opacities=torch.ones(3), sh0=torch.zeros(3, 1, 3),
    )  # fmt: skip
    K = torch.tensor([[10.0, 0, 10], [0, 10, 10], [0, 0, 1]])
    camera = Cameras(K, torch.eye(4), 20, 20)
    depth, labels = torch.full((20, 20), 9.0), torch.full((20, 20), 2)
    depth[:, 8:12], labels[:, 8:12] = 5.0, 1
    votes = vote_labels(scene, camera, [depth], [labels], 3)
    assert votes[0].tolist() == [0, 1, 0]
    assert votes[2].tolist() == [0, 0, 1]
    assert votes[1].tolist() == [0, 0, 1]  # nearest seen: the one beside it, not before it


def test_voxels_of_one_gaussian():
    scene = Gaussians(
        means=[[1.0, 1.0, 1.0]], quats=rotmat_to_quat(torch.eye(3))[None], scales=[[0.3] * 3],
        opacities=[1.0], sh0=[[[0.0, 0, 0]]],
    )  # fmt: skip
    votes = torch.tensor([[0.0, 0.0, 1.0]])
    grid = voxelize_gaussians(scene, votes, (0.0, 0.0, 0.0), (0.4, 0.4, 0.4), (6, 6, 4), 0.3)
    assert int(grid.labels[2, 2, 2]) == 2 and int(grid.labels[0, 0, 0]) == 0


def test_the_street_is_found(tmp_path):
    labels = torch.zeros(60, 40, 4, dtype=torch.long)
    labels[:, 18:24, 0] = 6  # a road along x
    labels[30:33, :, 0] = 6  # a narrow one along y
    grid = VoxelGrid(labels, origin=torch.tensor([-12.0, -8.0, -0.2]), voxel_size=0.4)
    start, heading = find_street(grid, 16.0)
    assert heading == 0.0
    assert -0.8 <= start[1] <= 1.6
    file = tmp_path / "occupancy.npz"
    write_voxel_grid(file, grid)
    context = SimpleNamespace(artefact=lambda *_: file, find=lambda *_: None, name="occupancy")
    poses = OccupancyFuture(step=4.0).poses(context, 4)
    np.testing.assert_allclose(poses[:, 0, 3] - start[0], [0, 4, 8, 12], atol=1e-5)
    (found,) = OccupancyFromGaussians().check(context)
    assert found.value == int((labels > 0).sum())
    with pytest.raises(UserError, match="no road"):
        find_street(VoxelGrid(labels * 0, origin=torch.zeros(3), voxel_size=0.4), 4.0)
