"""Films of the result."""

from pathlib import Path

from mmcity.apis.scenes import film_scene
from mmcity.workflow import STAGES, Stage, StageContext


@STAGES.register_module()
class RenderTour(Stage):
    """A fly-through of the baked scene with depth and normals.

    Args:
        frames: Defaults to 36.
        long_side: px. Defaults to 320.
        format: ``gif`` (shown in the report) or ``mp4``. Defaults to ``gif``.
    """

    needs = ("poses", "baked")

    def __init__(self, frames: int = 36, long_side: int = 320, format: str = "gif") -> None:
        self.frames, self.long_side, self.format = frames, long_side, format

    def run(self, context: StageContext) -> dict[str, Path]:
        """Film, depth and normals of a flight over the baked scene."""
        film, _, depth, normals = context.call(
            film_scene,
            context.artefact("baked", "scene"),
            context.folder,
            cameras=context.artefact("poses", "scene"),
            frames=self.frames,
            fps=12,
            format=self.format,
            long_side=self.long_side,
        )
        return {file.stem: file for file in (film, depth, normals)}
