"""Import paths of modules that have moved, so that code written for them goes on working."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

#: Modules that kept their names, by the package they left and the one they are in now.
_ROOMS = {
    ("mmcity.apis", "mmcity.apis.streaming"): (
        "depth_estimators geometry_prior stream_writer streaming_reconstructor"
    ),
    ("mmcity.apis", "mmcity.apis.localization"): "localizer localizer_file tiled_localizer",
    ("mmcity.apis", "mmcity.apis.occupancy"): (
        "occupancy_generator occupancy_predictor text_prototypes threshold_calibration"
    ),
    ("mmcity.apis", "mmcity.apis.scenes"): "scene_renderer",
    ("mmcity.datasets.toytown", "mmcity.toytown.motion"): (
        "agents flight glides lanes traffic walks"
    ),
    ("mmcity.datasets.toytown", "mmcity.toytown.truth"): (
        "annotations drives feature_maps occupancy occupancy_map sparse_points visibility"
    ),
    ("mmcity.datasets.toytown", "mmcity.toytown.world"): (
        "building_style buildings config furniture geometry2d layout materials meshes noise "
        "people roofs streets taxonomy two_wheelers vegetation vehicles"
    ),
    ("mmcity.datasets.toytown", "mmcity.toytown.sensors"): (
        "cameras effects lidar lighting raycast renderer rigs"
    ),
    ("mmcity.engine.distributed", "mmcity.engine.citygsx"): (
        "shard_group sharded_scene splat_exchange work_division"
    ),
    ("mmcity.engine.hooks", "mmcity.engine.dynamiccity"): "latent_statistics_hook rollout_hook",
    ("mmcity.engine.hooks", "mmcity.engine.rap"): "pose_frame_hook view_synthesis_hook",
    ("mmcity.engine", "mmcity.engine.dynamiccity"): "rollout_export",
    ("mmcity.engine", "mmcity.engine.rap"): "scene_checks view_synthesis",
    ("mmcity.structures", "mmcity.structures.io"): (
        "gaussians_gltf gaussians_ply gaussians_spz glb ply"
    ),
}

#: Old path of a module or package and where it is now. Modules of a package that is named here
#: follow it, unless they are named themselves.
MOVED = {
    f"{old}.{name}": f"{new}.{name}"
    for (old, new), names in _ROOMS.items()
    for name in names.split()
} | {
    "mmcity.engine.hooks.anchor_growth_hook": "mmcity.engine.hooks.growth_hook",
    "mmcity.engine.hooks.densification_hook": "mmcity.engine.hooks.growth_hook",
    "mmcity.models.gaussian_splatting.strategies.base": "mmcity.models.layers.strategy",
    "mmcity.apis.frame_sources": "mmcity.datasets.frame_sources",
    "mmcity.apis.streaming.frame_sources": "mmcity.datasets.frame_sources",
    "mmcity.apis.localization_report": "mmcity.apis.localization.report",
    "mmcity.apis.localization_result": "mmcity.apis.localization.result",
    "mmcity.apis.localizer_chain": "mmcity.workflow.localization.localizer_stages",
    "mmcity.apis.targets": "mmcity.apis.occupancy.foundation_maps",
    "mmcity.datasets.toytown": "mmcity.toytown",
    "mmcity.engine.chain": "mmcity.workflow",
    "mmcity.structures.gaussians_io": "mmcity.structures.io.gaussian_files",
    "mmcity.structures.occupancy_data_sample": "mmcity.structures.data_samples",
}


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of old paths with the very module at the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of an old path; None for all others."""
        if _new_path(fullname) is None:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module at the new path."""
        module = importlib.import_module(_new_path(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; it was run when it was imported by its new path."""
        module.__spec__ = module.__spec__.loader_state


def _new_path(name: str) -> str | None:
    if not name.startswith("mmcity."):
        return None
    package, rest = name, ""
    while package not in MOVED:
        package, dot, last = package.rpartition(".")
        if not dot:
            return None
        rest = f".{last}{rest}"
    return MOVED[package] + rest


def enable_moved_modules() -> None:
    """Let the old paths of :data:`MOVED` be imported; they stay valid without a warning."""
    if not any(isinstance(finder, _MovedModuleFinder) for finder in sys.meta_path):
        # Before the finder of files, which would read the modules of a moved package again.
        sys.meta_path.insert(0, _MovedModuleFinder())
