"""Helpers that stand below everything: errors of commands, files, environment."""

from .cli import UserError, run_command
from .collect_env import collect_env
from .dependencies import DependencyError, check_dependencies
from .fileio import atomic_path
from .setup_env import register_all_modules

__all__ = [
    "DependencyError",
    "UserError",
    "atomic_path",
    "check_dependencies",
    "collect_env",
    "register_all_modules",
    "run_command",
]
