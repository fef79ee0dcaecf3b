"""Sources of the pictures."""

import os
from pathlib import Path

from mmcity.datasets.converters import is_film, take_frames
from mmcity.utils.cli import UserError
from mmcity.utils.fileio import read_json
from mmcity.utils.images import list_images
from mmcity.utils.picture_files import read_image
from mmcity.visualization import contact_sheet, write_image
from mmcity.workflow import STAGES, Finding, Stage, StageContext


def _sheet(folder: Path, target: Path) -> Path:

    files = list_images(folder, recursive=True)
    chosen = files[:: max(len(files) // 8, 1)][:8]
    pictures = [read_image(file) for file in chosen]
    write_image(target, contact_sheet([pictures[:4], pictures[4:]][: -(-len(pictures) // 4)]))
    return target


@STAGES.register_module()
class ToytownImages(Stage):
    """A drone survey of a toy town, which comes with exact poses, depth and classes.

    Args:
        seed: Of the town. Defaults to 0.
        blocks: Blocks along x and y. Defaults to one.
        num_images: Defaults to 40.
        image_size: Width and height. Defaults to 320x240.
        num_points: Of the sparse model. Defaults to 4000.
        workers: Processes that render. Defaults to 2.
    """

    def __init__(
        self,
        seed: int = 0,
        blocks: tuple[int, int] = (1, 1),
        num_images: int = 40,
        image_size: tuple[int, int] = (320, 240),
        num_points: int = 4000,
        workers: int = 2,
    ) -> None:
        self.seed, self.blocks, self.workers = seed, tuple(blocks), workers
        self.options = dict(
            image_size=tuple(image_size), num_images=num_images, num_points=num_points
        )

    def run(self, context: StageContext) -> dict[str, Path]:
        """``source`` and ``images`` of a new toy town, with its ``truth``."""
        from mmcity.toytown import ToytownConfig
        from mmcity.toytown.writers import write_citygsx

        config = ToytownConfig(seed=self.seed, blocks=self.blocks)
        scene = write_citygsx(
            context.folder / "scene", config, workers=self.workers, **self.options
        )
        return {
            "source": scene,
            "images": scene / "train" / "rgbs",
            "truth": scene / "gt",
            "true_model": scene / "sparse" / "0",
            "toytown": scene / "toytown.json",
            "pictures": _sheet(scene / "train" / "rgbs", context.folder / "images.jpg"),
        }

    def check(self, context: StageContext) -> list[Finding]:
        """Number of images."""
        counts = read_json(context.artefact("images", "toytown"))
        return [Finding("images", float(counts.get("options", {}).get("num_images", 0))
                        or float(self.options["num_images"]))]  # fmt: skip


@STAGES.register_module()
class FolderImages(Stage):
    """Pictures of one's own.

    Args:
        path: A COLMAP scene, a folder of pictures, or a film, of which frames are taken; relative
            to the working folder. A leading ``$MMCITY_DATA`` is replaced (default
            ``../shared/data``).
        images: Folder of the pictures below it. Defaults to ``images``.
    """

    def __init__(self, path: str, images: str = "images") -> None:
        self.path, self.images = path, images

    def run(self, context: StageContext) -> dict[str, Path]:
        """``source`` and ``images`` of a folder."""
        data = os.environ.get("MMCITY_DATA", "../shared/data")
        source = Path(self.path.replace("$MMCITY_DATA", data)).resolve()
        images = source / self.images
        if is_film(source):
            source = images = context.call(take_frames, source, context.folder / "frames").folder
        if not images.is_dir():
            raise UserError(f"{images}: expected a folder or film of pictures; set path and images")
        return {
            "source": source,
            "images": images,
            "pictures": _sheet(images, context.folder / "images.jpg"),
        }
