"""Facts about the machine for a bug report."""

from importlib import metadata, util

from mmcity.version import __version__

_LIBRARIES = (
    *(
        "numpy",
        "scipy",
        "pillow",
        "einops",
        "plyfile",
        "zstandard",
        "trimesh",
        "embreex",
        "openmim",
    ),
    *("mmcv", "mmdet", "mmdet3d", "nuscenes-devkit", "viser", "setuptools", "ninja"),
)


def collect_env() -> dict[str, str]:
    """Versions of python, torch, compilers, GPUs, the toolbox and what it can use.

    Returns:
        dict: Names and values, ready to be printed line by line.
    """
    from mmengine.utils.dl_utils import collect_env as collect_base_env

    info = {name: str(value) for name, value in collect_base_env().items()}
    info["mmcity"] = __version__
    for library in _LIBRARIES:
        try:
            info[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            info[library] = "not installed"
    info["mmcity_ops"] = _describe_ops()
    return info


def _describe_ops() -> str:
    if util.find_spec("mmcity_ops") is None:
        return "not found: pip install -e . --no-build-isolation --no-deps"
    import mmcity_ops

    return str(getattr(mmcity_ops, "__file__", "found"))


if __name__ == "__main__":
    for name, value in collect_env().items():
        print(f"{name}: {value}")
