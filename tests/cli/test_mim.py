"""``mim train`` and ``mim test`` with an editable install, a wheel, and inside mmdet3d."""

import importlib.util
import shutil
import sys
import zipfile

import pytest

from .conftest import REPO, TOY, TOY_CONFIG


@pytest.mark.slow
@pytest.mark.ci_slow
def test_mim_from_a_source_tree(mim, run_command, command_env, tmp_path):
    if not (REPO / "mmcity.egg-info").is_dir():
        pytest.skip("no editable install: pip install -e . --no-build-isolation --no-deps")
    env = {"PYTHONPATH": f".:{command_env['PYTHONPATH']}"}
    run_command(mim, "train", "mmcity", TOY_CONFIG, "--work-dir", tmp_path, cwd=REPO, env=env)
    done = run_command(
        mim, "test", "mmcity", TOY_CONFIG, "--checkpoint", tmp_path / "iter_20.pth",
        "--work-dir", tmp_path / "test", cwd=REPO, env=env,
    )  # fmt: skip
    assert "toy/error" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.ci_slow
def test_wheel_carries_everything(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "mmcity/.mim/tools/train.py",
        "mmcity/.mim/tools/dist_train.sh",
        "mmcity/.mim/configs/_base_/default_runtime.py",
        "mmcity/.mim/model-index.yml",
        "mmcity_ops/__init__.py",
        "mmcity_ops/csrc/register.cpp",
        "mmcity/.mim/ops/csrc/register.cpp",
        "mmcity/utils/fileio.py",
    }
    assert expected <= names
    sources = {p.relative_to(REPO / "ops") for p in (REPO / "ops").rglob("*.py")}
    sources |= {
        p.relative_to(REPO / "ops")
        for p in (REPO / "ops").rglob("*")
        if p.suffix in (".cpp", ".h", ".cu", ".cuh")
    }
    assert {f"mmcity_ops/{path}" for path in sources} <= names
    modules = {
        p.relative_to(REPO) for p in (REPO / "mmcity").rglob("*.py") if ".mim" not in p.parts
    }
    assert {str(path) for path in modules} <= names
    assert not [name for name in names if name.startswith(("tests/", "ops/"))]


@pytest.mark.slow
@pytest.mark.ci_slow
def test_mim_from_a_wheel_in_any_folder(mim, wheel, run_command, command_env, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    env = {"PYTHONPATH": f"{tmp_path / 'site'}:{TOY}"}
    # a config given by its bare name is searched below the package
    shutil.copy(TOY_CONFIG, tmp_path / "site/mmcity/.mim/configs/toy_cpu.py")
    text = (tmp_path / "site/mmcity/.mim/configs/toy_cpu.py").read_text()
    text = text.replace("../../../configs/_base_/default_runtime.py",
                        "mmcity::_base_/default_runtime.py")  # fmt: skip
    (tmp_path / "site/mmcity/.mim/configs/toy_cpu.py").write_text(text)
    run_command(mim, "train", "mmcity", "toy_cpu.py", "--work-dir", tmp_path / "run", env=env)
    assert (tmp_path / "run/iter_20.pth").is_file()


@pytest.mark.det3d
@pytest.mark.slow
@pytest.mark.ci_slow
def test_mim_train_mmdet3d(mim, run_command, command_env, tmp_path):
    if importlib.util.find_spec("mmdet3d") is None or importlib.util.find_spec("mmcv") is None:
        pytest.skip("mmcv, mmdet and mmdet3d are not installed: docs/faq.md says how to get mmcv")
    config = tmp_path / "toy_in_mmdet3d.py"
    config.write_text(
        f"_base_ = [{str(TOY_CONFIG)!r}]\n"
        "default_scope = 'mmdet3d'\n"
        "custom_imports = dict(imports=['toy_project', 'mmcity.compat.mmdet3d'])\n"
        "default_hooks = dict(checkpoint=dict(type='CityCheckpointHook'))\n"
    )
    env = {"PYTHONPATH": f".:{command_env['PYTHONPATH']}"}
    run_command(mim, "train", "mmdet3d", config, "--work-dir", tmp_path / "run", cwd=REPO, env=env)
    run_command(
        mim, "test", "mmdet3d", config, "-C", tmp_path / "run/iter_20.pth",
        "--work-dir", tmp_path / "test", cwd=REPO, env=env,
    )  # fmt: skip
    import torch

    checkpoint = torch.load(tmp_path / "run/iter_20.pth", weights_only=True)
    assert "random_states" in checkpoint  # the hook of this toolbox wrote it


@pytest.mark.det3d
@pytest.mark.slow
@pytest.mark.ci_slow
def test_mim_trains_gausstr_in_mmdet3d(mim, run_command, command_env, tmp_path):
    if importlib.util.find_spec("mmdet3d") is None or importlib.util.find_spec("mmcv") is None:
        pytest.skip("mmcv, mmdet and mmdet3d are not installed: docs/faq.md says how to get mmcv")
    from mmcity.toytown import ToytownConfig
    from mmcity.toytown.writers import write_nuscenes

    data = tmp_path / "data" / "toytown" / "nuscenes"
    write_nuscenes(
        data, ToytownConfig(seed=3, blocks=(1, 2)), (200, 112), num_scenes=2, num_frames=2,
        sweeps=False, feature_patch=4,
    )  # fmt: skip
    converter = REPO / "tools/dataset_converters/nuscenes_converter.py"
    run_command(sys.executable, converter, data, "--version", "v1.0-mini")
    config = REPO / "configs/gausstr/gausstr_toytown_cpu.py"
    # The command of the documentation, in a folder with the data, and short.
    env = {"PYTHONPATH": f"{REPO}:{command_env['PYTHONPATH']}"}
    run_command(
        mim, "train", "mmdet3d", config, "--work-dir", tmp_path / "run", "--cfg-options",
        "train_cfg.max_iters=3", "train_cfg.val_interval=3", env=env,
    )  # fmt: skip
    done = run_command(
        mim, "test", "mmdet3d", config, "-C", tmp_path / "run/iter_3.pth",
        "--work-dir", tmp_path / "test", env=env,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert "miou_present" in text and "voxelizer" in text
    # The bare names of the config were found from mmdet3d's scope.
    dumped = next((tmp_path / "run").glob("*/vis_data/config.py")).read_text()
    assert "default_scope = 'mmdet3d'" in dumped
