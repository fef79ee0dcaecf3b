from .process_group import LAUNCHERS, adapt_config_to_cpu, init_cpu_process_group, setup_distributed

__all__ = ["LAUNCHERS", "adapt_config_to_cpu", "init_cpu_process_group", "setup_distributed"]
