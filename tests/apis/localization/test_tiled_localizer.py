"""A room whose walls are mapped as two tiles."""

import numpy as np
import pytest

from mmcity.apis import Localizer, TiledLocalizer
from mmcity.evaluation.functional.localization import localization_errors
from tests.apis.localization.test_localizer import MappedRoom, picture
from tests.models.rap.textured_room import render_room, room_camera


class Half(MappedRoom):
    """Mapped images of some rows, which look at a half of the walls."""

    def __init__(self, rows):
        super().__init__()
        self.cameras = self.cameras[rows]
        self.img_names = [self.img_names[row] for row in rows]


@pytest.fixture(scope="module")
def city():
    front, back = Half([10, 11, 0, 1, 2]), Half([4, 5, 6, 7, 8])
    tiles = {"back": Localizer(render_room, back), "front": Localizer(render_room, front)}
    return TiledLocalizer(tiles, max_tiles=2, votes=3)


@pytest.mark.parametrize(("z", "tile"), [(2.0, "front"), (-2.0, "back")])
def test_a_picture_is_localised_in_the_tile_that_it_shows(city, z, tile):
    truth = room_camera((0.2, 0.1, -0.1), (0.5, 0.1, z))
    assert city.likely_tiles(picture(truth))[0] == tile
    (result,) = city([picture(truth)])
    assert result.status == "ok" and result.details["tile"] == tile
    assert result.details["tiles_tried"] == [tile]  # the other one is not rendered
    metres, degrees = localization_errors(result.camera.cam_to_world, truth.cam_to_world)
    assert float(metres) < 0.01 and float(degrees) < 0.1


def test_the_best_answer_counts_where_no_tile_is_sure(city):
    noise = np.random.RandomState(0).randint(0, 255, (120, 160, 3), np.uint8)
    result = city.localize(noise, name="noise")
    assert result.status == "failed" and result.name == "noise"
    assert sorted(result.details["tiles_tried"]) == sorted(city.likely_tiles(noise))


def test_a_mapped_image_may_be_left_out(city):
    # Without itself, the photograph's neighbours at its side of the room vote.
    image = city.tiles["front"].mapped.load(2)["img"]
    assert city.likely_tiles(image, exclude="map_000.jpg")[0] == "front"


def test_tiles_are_needed():
    with pytest.raises(ValueError, match="at least one tile"):
        TiledLocalizer({})
