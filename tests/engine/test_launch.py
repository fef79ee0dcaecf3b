"""Hooks by name: configs that list them, switch them off, or bring them twice."""

import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmcity.engine.config_check import ConfigError
from mmcity.engine.distributed import launched_rank
from mmcity.engine.launch import apply_checkpoint, apply_dump, apply_resume, load_config, train
from mmcity.utils.cli import UserError
from tests.cli.conftest import REPO

CONFIGS = REPO / "configs"


def write(tmp_path, base: str, text: str):
    path = tmp_path / "user.py"
    path.write_text(f"_base_ = [{str(CONFIGS / base)!r}]\n{text}")
    return path


def test_a_list_of_before_hooks_had_names_takes_the_place_of_all(tmp_path):
    path = write(
        tmp_path,
        "gaussian_splatting/3dgs_mcmc_colmap.py",
        "custom_hooks = [dict(type='mmcity.SceneInitHook')]  # neither growth nor export\n",
    )
    message = r"user\.py: custom_hooks takes .* default_hooks\.scene_init, default_hooks\.growth"
    with pytest.warns(UserWarning, match=message):
        cfg = load_config(path)
    assert not set(cfg.default_hooks) & {"scene_init", "growth", "export"}
    with pytest.warns(UserWarning), pytest.raises(ConfigError, match="'growth' is not in"):
        load_config(path, {"default_hooks.growth.strategy.refine_start": 3})


def test_an_entry_of_a_list_takes_the_place_of_the_named_hook_of_its_type(tmp_path):
    path = write(
        tmp_path,
        "gaussian_splatting/3dgs_mcmc_colmap.py",
        "custom_hooks = [dict(type='EMAHook'),\n"
        "    dict(type='mmcity.DensificationHook', strategy=dict(type='DefaultStrategy'))]\n",
    )
    with pytest.warns(UserWarning, match=r"takes the place of default_hooks\.growth: better"):
        cfg = load_config(path)
    assert set(cfg.default_hooks) & {"scene_init", "growth", "export"} == {"scene_init", "export"}
    assert cfg.custom_hooks[1].strategy == dict(type="DefaultStrategy")


def test_a_name_that_is_none_is_out(tmp_path):
    path = write(tmp_path, "rap/rap_colmap.py", "default_hooks = dict(timer=None)")
    hooks = load_config(path, {"default_hooks.early_stopping": None}).default_hooks
    assert "early_stopping" not in hooks and "view_synthesis" in hooks
    assert hooks.timer is None  # one of mmengine's, which takes it out itself


def test_a_child_changes_one_value_of_a_hook(tmp_path):
    path = write(
        tmp_path,
        "rap/rap_colmap.py",
        "default_hooks = dict(view_synthesis=dict(perturber=dict(d_max=3.0)))",
    )
    base, child = load_config(CONFIGS / "rap/rap_colmap.py"), load_config(path)
    base.default_hooks.view_synthesis.perturber.d_max = 3.0
    assert child.default_hooks == base.default_hooks


def test_a_runtime_beside_a_schedule_that_brings_it_is_read_once(tmp_path):
    """Configs of 0.1.0 name both."""
    bases = ["mmcity::_base_/schedules/rap_2000e.py", "mmcity::_base_/default_runtime.py"]
    path = tmp_path / "user.py"
    path.write_text(f"_base_ = {bases}\n")
    alone = tmp_path / "alone.py"
    alone.write_text(f"_base_ = {bases[:1]}\n")

    assert load_config(path).to_dict() == load_config(alone).to_dict()
    assert load_config(path).default_hooks.checkpoint.type == "CityCheckpointHook"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default_hooks = dict(dump=dict(type='DumpResultHook', out_dir='x', format='pkl'))",
        "custom_hooks = [dict(type='mmcity.DumpResultHook', out_dir='x', format='pkl')]",
    ],
    ids=["none", "named", "listed"],
)
def test_results_are_dumped_once(tmp_path, text):
    cfg = load_config(write(tmp_path, "streamvggt/eval_base.py", text))
    apply_dump(cfg, "results")
    hooks = [*cfg.default_hooks.values(), *cfg.get("custom_hooks", [])]
    (dump,) = [hook for hook in hooks if "DumpResultHook" in hook.type]
    assert dump.out_dir == "results" and dump.get("format") == ("pkl" if text else None)


def test_a_config_on_an_installed_base_loads_data(tmp_path, toytown_citygsx):
    path = tmp_path / "user.py"
    path.write_text(
        "_base_ = ['mmcity::gaussian_splatting/3dgs_toytown_cpu.py']\n"
        "val_dataloader = val_cfg = val_evaluator = None\n"
    )
    loader = load_config(path).train_dataloader
    loader.dataset.data_root = str(toytown_citygsx)

    batch = next(iter(Runner.build_dataloader(loader, seed=0)))

    assert len(batch["data_samples"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("custom_hooks = dict(type='SceneInitHook')", "custom_hooks: expected a list of dict"),
        ("custom_hooks = [dict(interval=3)]", "custom_hooks: expected a list of dict"),
        ("default_hooks = dict(grwth=dict(log_interval=3))", r"grwth: .* names .*growth"),
    ],
)
def test_hooks_of_another_form_are_named(tmp_path, text, message):
    path = write(tmp_path, "gaussian_splatting/3dgs_toytown_cpu.py", text)
    with pytest.raises(ConfigError, match=rf"user\.py: .*{message}"):
        load_config(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a b.py", "a.json", "a.yaml"])
def test_configs_saved_on_windows_read_alike(tmp_path, name, encoding):
    (tmp_path / "base.py").write_bytes("place = 'straße'\r\n".encode(encoding))
    text = {
        ".py": "_base_ = ['base.py']\r\nx = 'ü'\r\n",
        ".json": '{"_base_": ["base.py"],\r\n "x": "ü"}',
        ".yaml": "_base_: [base.py]\r\nx: ü\r\n",
    }
    path = tmp_path / name
    path.write_bytes(text[path.suffix].encode(encoding))
    cfg = load_config(path)
    assert (cfg.place, cfg.x) == ("straße", "ü")


def test_a_file_that_is_no_config_is_named(tmp_path):
    file = tmp_path / "scene.ply"
    file.write_text("ply")
    with pytest.raises(ConfigError, match=r"scene\.ply: expected a config"):
        load_config(file)


def test_the_folder_of_a_run_stands_for_its_checkpoint(tmp_path):
    checkpoint = tmp_path / "iter_7.pth"
    checkpoint.write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text(str(checkpoint))
    cfg = Config(dict(work_dir=str(tmp_path)))

    apply_checkpoint(cfg, str(tmp_path))
    assert (cfg.load_from, cfg.resume) == (str(checkpoint), False)
    apply_resume(cfg, str(tmp_path))
    assert (cfg.load_from, cfg.resume) == (str(checkpoint), True)
    with pytest.raises(FileNotFoundError, match="the folder of a run, found none"):
        apply_checkpoint(cfg, str(tmp_path / "no.pth"))


HOLD = """
import sys
from mmcity.utils.work_lock import work_lock
with work_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_training_in_a_work_dir_is_refused(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(f"work_dir = {str(tmp_path / 'run')!r}\n")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"expected no other run .* process {other.pid} on"):
            train(config)
        other.kill()
    # What a killed run has left is no lock.
    assert (tmp_path / "run" / ".lock").read_text().startswith(f"process {other.pid}")
    with pytest.raises(Exception) as caught:
        train(config)
    assert "expected no other run" not in str(caught.value)


@pytest.mark.parametrize(
    ("launcher", "name"),
    [("pytorch", "RANK"), ("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM_WORLD_RANK")],
)
def test_the_first_process_of_a_launcher_is_known_before_it_joins(launcher, name, monkeypatch):
    monkeypatch.setenv(name, "3")
    assert launched_rank(launcher) == 3 and launched_rank("none") == 0
