"""Training and testing: from a config and the choices of a user to mmengine's Runner."""

import contextlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from unittest import mock

from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process

from mmcity.engine.checkpointing import find_checkpoint, require_checkpoint
from mmcity.engine.config_check import ConfigError, check_config_keys
from mmcity.engine.config_options import merge_options
from mmcity.engine.distributed import launched_rank, lost_processes_told, setup_distributed
from mmcity.engine.pilot import build_runner, plan_iterations
from mmcity.engine.schedule import scale_schedule
from mmcity.utils.config_index import find_config
from mmcity.utils.fileio import read_text, write_json
from mmcity.utils.published_weights import find_weights
from mmcity.utils.setup_env import register_all_modules
from mmcity.utils.work_lock import work_lock

#: Schedules with hooks, which inherit the default runtime to add theirs to its.
_WHOLE_SCHEDULES = tuple(
    f"schedules/{name}.py"
    for name in ("citygsx_100k", "gaussian_splatting_30k", "hexplane_dit_300k", "rap_2000e")
)
_read_base_files = Config._get_base_files


def _bases_of(filename: str) -> list[str]:
    """Bases of a config, without a default runtime that its schedule brings too.

    Configs of 0.1.0 name both; mmengine refuses bases that share a key.
    """
    bases = _read_base_files(filename)
    if any(base.endswith(_WHOLE_SCHEDULES) for base in bases):
        bases = [base for base in bases if not base.endswith("default_runtime.py")]
    return bases


def _open(path: str, mode: str = "r", **options: Any) -> IO[str]:
    """A file of a config; text of any program is read, see :func:`read_text`."""
    return io.StringIO(read_text(path)) if mode == "r" else Path(path).open(mode, **options)


def load_config(path: str | os.PathLike, options: Mapping[str, object] | None = None) -> Config:
    """Read a config file, check its names and merge the options of the command line.

    Args:
        path: A python, json or yaml config, or a name that ``mmcity list`` prints.
        options: Dotted keys and their values (``--cfg-options``). Defaults to None.

    Raises:
        FileNotFoundError: If there is no such file and no such name.
        ConfigError: If the file cannot be read, a top-level name is misspelt, or an option changes
            nothing.
    """
    if not Path(path).is_file():
        path = find_config(str(path))
    if Path(path).suffix not in (".py", ".json", ".yaml", ".yml"):
        raise ConfigError(f"{path}: expected a config (.py, .json, .yaml), got another file")
    register_all_modules(init_default_scope=False)
    # 0.1.0's way of naming bases, see _bases_of
    with (
        mock.patch.object(Config, "_get_base_files", _bases_of),
        mock.patch("mmengine.config.config.open", _open, create=True),
    ):
        try:
            cfg = Config.fromfile(path)
        except OSError:
            raise  # a base that is not there names itself
        except Exception as error:  # a config is code of its author: anything may come
            raise ConfigError(
                f"{path}: expected a config that can be read, got {type(error).__name__}: {error}: "
                "mend the file"
            ) from error
    for place in ("train", "val", "test"):
        # mmengine marks all of a base "mmcity::..." and would hand the mark to the function
        collate = (cfg.get(f"{place}_dataloader") or {}).get("collate_fn")
        if isinstance(collate, dict):
            collate.pop("_scope_", None)
    check_config_keys(cfg)
    _settle_hooks(cfg)
    merge_options(cfg, options)
    _settle_hooks(cfg)
    cfg.setdefault("default_scope", "mmcity")
    return cfg


def as_config(config: str | os.PathLike | Mapping | Config) -> Config:
    """A whole config, with ``model``, of all that a user may name one by.

    Args:
        config: See :func:`load_config`; or what it gives; or a dict of the same, or of
            ``model`` alone.
    """
    if isinstance(config, (str, os.PathLike)):
        return load_config(config)
    if "model" not in config:
        config = {"model": dict(config)}
    return config if isinstance(config, Config) else Config(dict(config))


#: Hooks that mmengine's Runner brings itself; None takes them out, without our help.
_RUNNER_HOOKS = "runtime_info timer sampler_seed logger param_scheduler checkpoint".split()


def _hook_type(hook: Mapping) -> str:
    """Class name of a hook's config, without scope."""
    kind = hook.get("type")
    return getattr(kind, "__name__", str(kind).rsplit(".", 1)[-1])


def find_hook(cfg: Config, kind: str) -> str | None:
    """Dotted key of the first hook of a class, named or listed; None if there is none."""
    hooks = {f"default_hooks.{name}": hook for name, hook in cfg.get("default_hooks", {}).items()}
    listed = enumerate(cfg.get("custom_hooks") or ())
    hooks |= {f"custom_hooks.{row}": hook for row, hook in listed}
    found = (place for place, hook in hooks.items() if hook and _hook_type(hook) == kind)
    return next(found, None)


#: Hooks with which the lists of configs began before hooks had names.
_LIST_HEADS = {"SceneInitHook", "PoseFrameHook", "ViewSynthesisHook", "LatentStatisticsHook"}


def _settle_hooks(cfg: Config) -> None:
    """Take named hooks out that are None, or whose place ``custom_hooks`` takes.

    A list takes the place of named hooks of its types, which else would run twice; a list of
    before hooks had names, which replaced that of its base, takes the place of all.
    """
    custom = cfg.get("custom_hooks") or ()
    if not isinstance(custom, (list, tuple)) or not all("type" in hook for hook in custom):
        raise ConfigError(
            f"{cfg.filename}: custom_hooks: expected a list of dict(type=...), got {custom}"
        )
    listed = {_hook_type(hook) for hook in custom}
    hooks = cfg.get("default_hooks") or {}
    replaced = []
    for name in [name for name in hooks if name not in _RUNNER_HOOKS]:
        if hooks[name] is None:
            del hooks[name]
        elif "type" not in hooks[name]:
            known = ", ".join(key for key in hooks if key != name)
            raise ConfigError(
                f"{cfg.filename}: default_hooks.{name}: expected a type, got none: the hooks that "
                f"are there have the names {known}"
            )
        elif listed & {_hook_type(hooks[name]), *_LIST_HEADS}:
            del hooks[name]
            replaced.append(f"default_hooks.{name}")
    if replaced:
        warnings.warn(
            f"{cfg.filename}: custom_hooks takes the place of {', '.join(replaced)}: better "
            "change values of these",
            stacklevel=3,
        )


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Choose where outputs go: command line, then config, then ``work_dirs/<config name>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(cfg.filename).stem)


def apply_amp(cfg: Config) -> None:
    """Switch the optimiser wrapper to mixed precision (``--amp``).

    Raises:
        ConfigError: If the config has a wrapper that cannot be switched.
    """
    wrapper = cfg.get("optim_wrapper")
    if wrapper is not None and wrapper.get("constructor") == "MultiOptimWrapperConstructor":
        for name, part in wrapper.items():
            if name != "constructor":
                apply_amp(Config(dict(optim_wrapper=part)))
                part.type = "mmcity.MixedPrecisionOptimWrapper"
        return
    kind = (wrapper or {}).get("type", "OptimWrapper")
    if wrapper is None or kind not in ("OptimWrapper", "AmpOptimWrapper"):
        if kind == "MixedPrecisionOptimWrapper":
            return
        raise ConfigError(
            f"--amp: expected an optim_wrapper of type 'OptimWrapper' to replace, got {kind!r}"
        )
    wrapper.type = "mmcity.MixedPrecisionOptimWrapper"
    wrapper.setdefault("loss_scale", "dynamic")


def apply_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the batch size over all processes (``--auto-scale-lr``).

    Raises:
        ConfigError: If the config does not say which batch size its learning rate is for.
    """
    scale = cfg.get("auto_scale_lr")
    if scale is None or "base_batch_size" not in scale:
        raise ConfigError(
            "--auto-scale-lr: expected auto_scale_lr=dict(base_batch_size=...) in the config: "
            "the batch size over all processes that its learning rate was chosen for"
        )
    scale.enable = True


def apply_resume(cfg: Config, resume: str | None) -> None:
    """Continue an earlier run (``--resume``).

    Args:
        cfg: The config with its ``work_dir`` set.
        resume: None to start anew, "auto" for the newest checkpoint of the work directory
            (a new start if there is none), else the path of a checkpoint.

    Raises:
        FileNotFoundError: If the named checkpoint, or the one that ``last_checkpoint``
            points to, is not there.
    """
    if resume is None:
        return
    if resume == "auto":
        if not (Path(cfg.work_dir) / "last_checkpoint").is_file():
            cfg.resume, cfg.load_from = False, cfg.get("load_from")
            return
        resume = cfg.work_dir
    cfg.resume, cfg.load_from = True, _checkpoint_file(resume)


def _checkpoint_file(checkpoint: str) -> str:
    """The checkpoint itself, where the folder of a run stands for it."""
    if "://" in checkpoint:
        return checkpoint
    path = Path(checkpoint).expanduser()
    found = find_weights(find_checkpoint(path) if path.is_dir() else checkpoint)
    if found is None:
        raise FileNotFoundError(
            f"checkpoint {path}: expected a checkpoint or the folder of a run, found none"
        )
    return str(found)


def apply_checkpoint(cfg: Config, checkpoint: str | None) -> None:
    """Choose what to test; None leaves the config's ``load_from``.

    Raises:
        FileNotFoundError: If the file is not there.
    """
    cfg.resume = False
    if checkpoint is None:
        return
    cfg.load_from = _checkpoint_file(checkpoint)


def apply_dump(cfg: Config, folder: str) -> None:
    """Write what each test sample gives to a folder (``--dump``).

    A ``DumpResultHook`` that the config already has keeps its other arguments.
    """
    place = find_hook(cfg, "DumpResultHook")
    if place is None:
        hook = dict(type="mmcity.DumpResultHook", out_dir=folder)
        cfg.merge_from_dict({"default_hooks.dump": hook})
    else:
        cfg.merge_from_dict({f"{place}.out_dir": folder})


def apply_show(cfg: Config, folder: str) -> None:
    """Let the visualisation hook of the config draw into a folder (``--show-dir``).

    Raises:
        ConfigError: If the config has no such hook.
    """
    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise ConfigError(
            "--show-dir: expected default_hooks.visualization in the config, got none: to get "
            "pictures from results, use --dump DIR and then tools/visualize.py DIR"
        )
    hook.draw = True
    hook.test_out_dir = folder


def apply_prediction_file(cfg: Config, path: str) -> None:
    """Pickle all predictions into one file (``--out FILE.pkl``)."""
    evaluators = cfg.get("test_evaluator") or []
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    cfg.test_evaluator = [*evaluators, dict(type="DumpResults", out_file_path=path)]


def _check_samples(*loops: object) -> None:
    """Tell which samples of loops failed, those that were not built or run aside."""
    for loop in loops:
        if hasattr(loop, "failures"):
            loop.failures.check()


def train(
    config: str | os.PathLike,
    *,
    work_dir: str | os.PathLike | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    max_iters: int | None = None,
    minutes: float | None = None,
    cfg_options: Mapping[str, object] | None = None,
    launcher: str = "none",
) -> Path:
    """Train the model of a config.

    Args:
        config: Config file.
        work_dir: Folder for logs and checkpoints. Defaults to the config's, then to
            ``work_dirs/<config name>``.
        resume: Continue from this checkpoint, or with ``auto`` from the newest in the work
            directory, see :func:`apply_resume`. Defaults to None.
        amp: Train in mixed precision. Defaults to False.
        auto_scale_lr: Scale the learning rate with the batch size over all processes. Defaults
            to False.
        max_iters: Number of iterations, with which all schedules are scaled, see
            :func:`~mmcity.engine.schedule.scale_schedule`. Defaults to None: as the config says.
        minutes: Train for so long: a pilot tells ``max_iters``, see
            :func:`~mmcity.engine.pilot.plan_iterations`. Defaults to None.
        cfg_options: Dotted keys of the config and their values. Defaults to None.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``: how the processes were started.
            Defaults to ``none``.

    Returns:
        The checkpoint that the run names as its last; the work directory if it wrote none.

    Raises:
        ConfigError: If the length of the training cannot be set, or is given twice.
        UserError: If another training runs in the work directory.
    """
    cfg = load_config(config, cfg_options)
    set_work_dir(cfg, None if work_dir is None else str(work_dir))
    with contextlib.ExitStack() as stack:
        if launched_rank(launcher) == 0:
            stack.enter_context(work_lock(cfg.work_dir))
        try:
            return _train(cfg, resume, amp, auto_scale_lr, max_iters, minutes, launcher)
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            # Logs and such are written by libraries that do not say which file it was.
            raise OSError(error.errno, error.strerror, str(cfg.work_dir)) from error


@lost_processes_told("training")
def _train(
    cfg: Config,
    resume: str | None,
    amp: bool,
    auto_scale_lr: bool,
    max_iters: int | None,
    minutes: float | None,
    launcher: str,
) -> Path:
    if amp:
        apply_amp(cfg)
    if auto_scale_lr:
        apply_auto_scale_lr(cfg)
    apply_resume(cfg, resume)
    setup_distributed(cfg, launcher)
    if minutes is not None:
        if max_iters is not None or get_world_size() > 1:
            got = f"--max-iters {max_iters}" if max_iters else f"{get_world_size()} processes"
            raise ConfigError(f"--minutes: expected one process and no --max-iters, got {got}")
        max_iters = plan_iterations(cfg, minutes, keep=resume is not None)
    changed = {} if max_iters is None else scale_schedule(cfg, max_iters)
    runner = build_runner(cfg)
    for key, (old, new) in changed.items():
        runner.logger.info(f"{key}: {new} in place of {old}")
    runner.train()
    _check_samples(runner._val_loop)
    folder = Path(cfg.work_dir)
    return find_checkpoint(folder) if (folder / "last_checkpoint").is_file() else folder


@lost_processes_told("test")
def test(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    *,
    work_dir: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    dump: str | os.PathLike | None = None,
    show_dir: str | os.PathLike | None = None,
    amp: bool = False,
    cfg_options: Mapping[str, object] | None = None,
    launcher: str = "none",
) -> dict[str, float]:
    """Test the model of a config.

    Args:
        config: Config file.
        checkpoint: File, URL or name of published weights. Defaults to the config's
            ``load_from``; a model without parameters is tested without.
        work_dir: Folder for logs. Defaults to the config's, then to ``work_dirs/<config name>``.
        out: ``.json`` for the metrics or ``.pkl`` for all predictions. Defaults to None.
        dump: Folder for what each sample gives. Defaults to None.
        show_dir: Folder for pictures of the results. Defaults to None.
        amp: Test in mixed precision. Defaults to False.
        cfg_options: Dotted keys of the config and their values. Defaults to None.
        launcher: See :func:`train`. Defaults to ``none``.

    Returns:
        The metrics by name.

    Raises:
        UserError: If samples fail, once the others are measured and the metrics written.
    """
    cfg = load_config(config, cfg_options)
    set_work_dir(cfg, None if work_dir is None else str(work_dir))
    apply_checkpoint(cfg, None if checkpoint is None else str(checkpoint))
    if amp:
        cfg.test_cfg.fp16 = True
    if dump is not None:
        apply_dump(cfg, str(dump))
    if show_dir is not None:
        apply_show(cfg, str(show_dir))
    writes_metrics = out is not None and str(out).endswith(".json")
    if out is not None and not writes_metrics:
        apply_prediction_file(cfg, str(out))
    setup_distributed(cfg, launcher)
    is_bare = cfg.get("load_from") is None
    if is_bare:
        require_checkpoint(str(config))
    runner = build_runner(cfg)
    if is_bare:
        require_checkpoint(str(config), runner.model)
    metrics = runner.test()
    if writes_metrics and is_main_process():
        write_json(out, metrics, indent=2)
    _check_samples(runner.test_loop)
    return metrics
