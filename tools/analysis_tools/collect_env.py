"""Print what a bug report has to say: ``python tools/analysis_tools/collect_env.py``."""

from mmcity.utils.collect_env import collect_env

if __name__ == "__main__":
    for name, value in collect_env().items():
        print(f"{name}: {value}")
