"""Import paths of modules that have moved, so that code written for them goes on working."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["MOVED", "enable_moved_modules"]

#: Old path of a module or package and where it is now. Modules of a package that is named here
#: follow it, unless they are named themselves.
MOVED = {
    "mmcity.engine.hooks.anchor_growth_hook": "mmcity.engine.hooks.growth_hook",
    "mmcity.engine.hooks.densification_hook": "mmcity.engine.hooks.growth_hook",
    "mmcity.models.gaussian_splatting.strategies.base": "mmcity.models.layers.strategy",
    "mmcity.apis.depth_estimators": "mmcity.apis.streaming.depth_estimators",
    "mmcity.apis.frame_sources": "mmcity.apis.streaming.frame_sources",
    "mmcity.apis.geometry_prior": "mmcity.apis.streaming.geometry_prior",
    "mmcity.apis.localization_report": "mmcity.apis.localization.report",
    "mmcity.apis.localization_result": "mmcity.apis.localization.result",
    "mmcity.apis.localizer": "mmcity.apis.localization.localizer",
    "mmcity.apis.localizer_chain": "mmcity.workflow.localization.localizer_stages",
    "mmcity.apis.localizer_file": "mmcity.apis.localization.localizer_file",
    "mmcity.apis.occupancy_generator": "mmcity.apis.occupancy.occupancy_generator",
    "mmcity.apis.occupancy_predictor": "mmcity.apis.occupancy.occupancy_predictor",
    "mmcity.apis.scene_renderer": "mmcity.apis.scenes.scene_renderer",
    "mmcity.apis.stream_writer": "mmcity.apis.streaming.stream_writer",
    "mmcity.apis.streaming_reconstructor": "mmcity.apis.streaming.streaming_reconstructor",
    "mmcity.apis.targets": "mmcity.apis.occupancy.foundation_maps",
    "mmcity.apis.text_prototypes": "mmcity.apis.occupancy.text_prototypes",
    "mmcity.apis.threshold_calibration": "mmcity.apis.occupancy.threshold_calibration",
    "mmcity.apis.tiled_localizer": "mmcity.apis.localization.tiled_localizer",
    "mmcity.datasets.toytown": "mmcity.toytown",
    "mmcity.datasets.toytown.agents": "mmcity.toytown.motion.agents",
    "mmcity.datasets.toytown.annotations": "mmcity.toytown.truth.annotations",
    "mmcity.datasets.toytown.building_style": "mmcity.toytown.world.building_style",
    "mmcity.datasets.toytown.buildings": "mmcity.toytown.world.buildings",
    "mmcity.datasets.toytown.cameras": "mmcity.toytown.sensors.cameras",
    "mmcity.datasets.toytown.config": "mmcity.toytown.world.config",
    "mmcity.datasets.toytown.drives": "mmcity.toytown.truth.drives",
    "mmcity.datasets.toytown.effects": "mmcity.toytown.sensors.effects",
    "mmcity.datasets.toytown.feature_maps": "mmcity.toytown.truth.feature_maps",
    "mmcity.datasets.toytown.flight": "mmcity.toytown.motion.flight",
    "mmcity.datasets.toytown.furniture": "mmcity.toytown.world.furniture",
    "mmcity.datasets.toytown.geometry2d": "mmcity.toytown.world.geometry2d",
    "mmcity.datasets.toytown.glides": "mmcity.toytown.motion.glides",
    "mmcity.datasets.toytown.lanes": "mmcity.toytown.motion.lanes",
    "mmcity.datasets.toytown.layout": "mmcity.toytown.world.layout",
    "mmcity.datasets.toytown.lidar": "mmcity.toytown.sensors.lidar",
    "mmcity.datasets.toytown.lighting": "mmcity.toytown.sensors.lighting",
    "mmcity.datasets.toytown.materials": "mmcity.toytown.world.materials",
    "mmcity.datasets.toytown.meshes": "mmcity.toytown.world.meshes",
    "mmcity.datasets.toytown.noise": "mmcity.toytown.world.noise",
    "mmcity.datasets.toytown.occupancy": "mmcity.toytown.truth.occupancy",
    "mmcity.datasets.toytown.occupancy_map": "mmcity.toytown.truth.occupancy_map",
    "mmcity.datasets.toytown.people": "mmcity.toytown.world.people",
    "mmcity.datasets.toytown.raycast": "mmcity.toytown.sensors.raycast",
    "mmcity.datasets.toytown.renderer": "mmcity.toytown.sensors.renderer",
    "mmcity.datasets.toytown.rigs": "mmcity.toytown.sensors.rigs",
    "mmcity.datasets.toytown.roofs": "mmcity.toytown.world.roofs",
    "mmcity.datasets.toytown.sparse_points": "mmcity.toytown.truth.sparse_points",
    "mmcity.datasets.toytown.streets": "mmcity.toytown.world.streets",
    "mmcity.datasets.toytown.taxonomy": "mmcity.toytown.world.taxonomy",
    "mmcity.datasets.toytown.traffic": "mmcity.toytown.motion.traffic",
    "mmcity.datasets.toytown.two_wheelers": "mmcity.toytown.world.two_wheelers",
    "mmcity.datasets.toytown.vegetation": "mmcity.toytown.world.vegetation",
    "mmcity.datasets.toytown.vehicles": "mmcity.toytown.world.vehicles",
    "mmcity.datasets.toytown.visibility": "mmcity.toytown.truth.visibility",
    "mmcity.datasets.toytown.walks": "mmcity.toytown.motion.walks",
    "mmcity.engine.chain": "mmcity.workflow",
    "mmcity.engine.distributed.shard_group": "mmcity.engine.citygsx.shard_group",
    "mmcity.engine.distributed.sharded_scene": "mmcity.engine.citygsx.sharded_scene",
    "mmcity.engine.distributed.splat_exchange": "mmcity.engine.citygsx.splat_exchange",
    "mmcity.engine.distributed.work_division": "mmcity.engine.citygsx.work_division",
    "mmcity.engine.hooks.latent_statistics_hook": (
        "mmcity.engine.dynamiccity.latent_statistics_hook"
    ),
    "mmcity.engine.hooks.pose_frame_hook": "mmcity.engine.rap.pose_frame_hook",
    "mmcity.engine.hooks.rollout_hook": "mmcity.engine.dynamiccity.rollout_hook",
    "mmcity.engine.hooks.view_synthesis_hook": "mmcity.engine.rap.view_synthesis_hook",
    "mmcity.engine.rollout_export": "mmcity.engine.dynamiccity.rollout_export",
    "mmcity.engine.scene_checks": "mmcity.engine.rap.scene_checks",
    "mmcity.engine.view_synthesis": "mmcity.engine.rap.view_synthesis",
    "mmcity.structures.gaussians_gltf": "mmcity.structures.io.gaussians_gltf",
    "mmcity.structures.gaussians_io": "mmcity.structures.io.gaussian_files",
    "mmcity.structures.gaussians_ply": "mmcity.structures.io.gaussians_ply",
    "mmcity.structures.gaussians_spz": "mmcity.structures.io.gaussians_spz",
    "mmcity.structures.glb": "mmcity.structures.io.glb",
    "mmcity.structures.occupancy_data_sample": "mmcity.structures.data_samples",
    "mmcity.structures.ply": "mmcity.structures.io.ply",
}


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of old paths with the very module at the new one."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
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
