"""Two processes that write to the same place at the same time."""

import multiprocessing

import pytest
import torch

from mmcity.cli.main import dispatch
from mmcity.structures import write_gaussians
from mmcity.utils.fileio import is_temporary
from mmcity.utils.made_from import file_digest
from tests.structures.test_gaussian_lod import street

ROUNDS = 8
TARGETS = ("scene.ply", "scene.spz", "scene.glb", "tiles")


def digest(folder) -> dict[str, str]:
    """Digest by name of all files."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def export(source, folder) -> None:
    for target in TARGETS:
        words = ["--max-per-cell", "200"] if target == "tiles" else []
        dispatch(["export", str(source), str(folder / target), *words])


def export_again_and_again(source, folder, start, failures) -> None:
    torch.set_num_threads(1)
    try:
        for _ in range(ROUNDS):
            start.wait()
            export(source, folder)
    except BaseException as error:
        failures.put(repr(error))
        start.abort()


@pytest.mark.timeout(300)
def test_two_exporters_leave_one_whole_scene(tmp_path):
    wanted = []
    for name, count in (("a", 700), ("b", 400)):
        write_gaussians(street(count, seed=count), tmp_path / f"{name}.ply")
        export(tmp_path / f"{name}.ply", tmp_path / name)
        wanted.append(digest(tmp_path / name))
    fork = multiprocessing.get_context("fork")
    start, failures, folder = fork.Barrier(2), fork.SimpleQueue(), tmp_path / "both"
    both = [
        fork.Process(
            target=export_again_and_again, args=(tmp_path / f"{name}.ply", folder, start, failures)
        )
        for name in "ab"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert failures.empty(), failures.get()
    found = digest(folder)
    for target in TARGETS:
        parts = [
            {name: value for name, value in files.items() if name.split("/")[0] == target}
            for files in (found, *wanted)
        ]
        if target != "tiles":
            assert parts[0] in parts[1:], target
            continue
        # The tileset names its cells, which lie in a folder named by their content.
        index = [files["tiles/tileset.json"] for files in parts]
        whole = parts[1] if index[0] == index[1] else parts[2]
        assert index[0] in index[1:] and whole.items() <= parts[0].items()
    assert not [path for path in folder.rglob("*") if is_temporary(path.name)]
