"""Shared helpers of the twin's stages."""

from mmcity.utils.fileio import read_json
from mmcity.workflow import StageContext


def toytown_world(context: StageContext):
    """Renderer of the exact static town, where there is one."""
    file = context.find("images", "toytown")
    if file is None:
        return None
    from mmcity.toytown import Renderer, ToytownConfig, build_world

    settings = read_json(file)["config"]
    return Renderer(build_world(ToytownConfig.from_dict(settings)))
