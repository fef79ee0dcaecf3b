"""Bridge into mmdet3d: ``mim train mmdet3d CONFIG`` with models of this toolbox.

Importing this module registers everything; a config asks for it by
``custom_imports=dict(imports=['mmcity.compat.mmdet3d'])``. Plain ``import mmcity`` does
not, since importing mmdet3d takes seconds.
"""

from mmengine.logging import print_log
from mmengine.registry import Registry

from mmcity import registry as own
from mmcity.utils.cli import UserError
from mmcity.utils.setup_env import register_all_modules

#: mmdet3d 1.4 looks for its inferencers in a module that it does not have.
_LEFT_OUT = ("INFERENCERS",)


class BridgeError(UserError, ImportError):
    """mmdet3d cannot be imported."""


def register_all() -> dict[str, list[str]]:
    """Register all modules of mmcity in mmdet3d's registries, where the name is free.

    A name that mmdet3d, or a registry above it, has already keeps its meaning in mmdet3d's
    scope; ``mmcity.NAME`` reaches the class of this toolbox in any scope.

    Returns:
        dict: Per registry the names that are registered now.

    Raises:
        BridgeError: If mmdet3d or what it needs is not installed.
    """
    try:
        from mmdet3d import registry as theirs
        from mmdet3d.utils import register_all_modules as register_theirs
    except (ImportError, AssertionError) as error:  # mmdet3d asserts versions of mmcv, mmdet
        raise BridgeError(
            f"mmcity.compat.mmdet3d: expected mmcv, mmdet and mmdet3d, got '{error}': install "
            "requirements/det3d.txt and requirements/det3d-nodeps.txt, see docs/faq.md"
        ) from error

    from mmcity.compat.deformable_attention import use_mmcv_kernel

    use_mmcv_kernel()
    register_all_modules(init_default_scope=False)
    # Their classes come first, so that names they define late are not taken by ours.
    register_theirs(init_default_scope=False)
    added: dict[str, list[str]] = {}
    for role, source in vars(own).items():
        target = getattr(theirs, role, None)
        if role in _LEFT_OUT or not (isinstance(source, Registry) and isinstance(target, Registry)):
            continue
        for name, module in source.module_dict.items():
            taken = target.get(name)
            if taken is None:
                target.register_module(name=name, module=module)
                added.setdefault(role, []).append(name)
            elif taken is not module:
                print_log(
                    f"{role}: '{name}' is {taken.__module__}.{taken.__qualname__} in mmdet3d's "
                    f"scope; write 'mmcity.{name}' for the one of mmcity",
                    logger="current",
                    level=10,
                )
    return added


register_all()
