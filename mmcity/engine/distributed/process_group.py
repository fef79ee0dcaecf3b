"""Starting processes of one training on machines without CUDA, too."""

import datetime
import os
import subprocess

import torch
import torch.distributed as dist
from mmengine.config import ConfigDict

from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_DEFAULT_PORT = "29500"


def setup_distributed(cfg: ConfigDict, launcher: str) -> None:
    """Prepare a config and this process for a launcher.

    With CUDA everything is left to mmengine's Runner. Without it the process group is
    started here with gloo, since the Runner would select a CUDA device, and the parts of
    the config that need a GPU are changed.

    Args:
        cfg: The config; ``launcher`` is set in it.
        launcher: One of ``LAUNCHERS``.

    Raises:
        ValueError: If the launcher is unknown.
        RuntimeError: If its environment variables are missing.
    """
    check_choice("launcher", launcher, LAUNCHERS)
    cfg.launcher = launcher
    if launcher == "none" or torch.cuda.is_available():
        return
    adapt_config_to_cpu(cfg)
    timeout = cfg.get("env_cfg", {}).get("dist_cfg", {}).get("timeout", 1800)
    init_cpu_process_group(launcher, timeout_s=timeout)


def adapt_config_to_cpu(cfg: ConfigDict) -> None:
    """Make the wrapper of a distributed model fit the CPU, and drop synchronised batch norm.

    ``DistributedDataParallel`` takes no device ids on the CPU, and torch's synchronised
    batch norm runs on GPUs only.
    """
    cfg.pop("sync_bn", None)
    wrapper = cfg.get("model_wrapper_cfg")
    if wrapper is None:
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
            device_ids=None,
        )
    elif str(wrapper.get("type", "")).endswith("DistributedDataParallel"):
        wrapper.device_ids = None
    strategy = cfg.get("strategy")
    if strategy is not None and strategy.get("type") == "DDPStrategy":
        strategy.setdefault("model_wrapper", dict(type="MMDistributedDataParallel"))
        strategy.model_wrapper.device_ids = None


def init_cpu_process_group(launcher: str, timeout_s: float = 1800) -> None:
    """Join the gloo process group that a launcher describes in the environment.

    Args:
        launcher: "pytorch", "slurm" or "mpi" (Open MPI).
        timeout_s: Seconds to wait for the other processes. Defaults to 1800.
    """
    if dist.is_initialized():
        return
    if launcher == "slurm":
        _export(rank=_read("SLURM_PROCID", launcher), size=_read("SLURM_NTASKS", launcher))
        os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")
        if "MASTER_ADDR" not in os.environ:
            os.environ["MASTER_ADDR"] = _first_slurm_host(_read("SLURM_NODELIST", launcher))
    elif launcher == "mpi":
        _export(
            rank=_read("OMPI_COMM_WORLD_RANK", launcher),
            size=_read("OMPI_COMM_WORLD_SIZE", launcher),
        )
        os.environ["LOCAL_RANK"] = _read("OMPI_COMM_WORLD_LOCAL_RANK", launcher)
        _read("MASTER_ADDR", launcher)
    else:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            _read(name, launcher)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", _DEFAULT_PORT)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=timeout_s))


def launched_rank(launcher: str) -> int:
    """Rank of this process as its launcher tells it; 0 without one."""
    names = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}
    return int(_read(names[launcher], launcher)) if launcher in names else 0


def launched_processes() -> tuple[int, int]:
    """Rank of this process and number of all, as torchrun tells them; 0 and 1 without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _read(name: str, launcher: str) -> str:
    if name not in os.environ:
        starter = {
            "pytorch": "torchrun or tools/dist_train.sh",
            "slurm": "srun or tools/slurm_train.sh",
            "mpi": "mpirun, with MASTER_ADDR exported",
        }[launcher]
        raise UserError(
            f"--launcher {launcher}: expected the variable {name}: start with {starter}"
        )
    return os.environ[name]


def _export(rank: str, size: str) -> None:
    os.environ["RANK"] = rank
    os.environ["WORLD_SIZE"] = size


def _first_slurm_host(node_list: str) -> str:
    done = subprocess.run(
        ["scontrol", "show", "hostnames", node_list], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[0]
