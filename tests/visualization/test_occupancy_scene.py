"""Pictures and pages of occupancy: what lies where."""

import base64
import json
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from mmcity.datasets.io.occupancy_files import occ3d_grid
from mmcity.datasets.occupancy_labels import OCC3D_NUSCENES_CLASSES
from mmcity.structures.palettes import OCC3D_NUSCENES_PALETTE
from mmcity.visualization.occupancy_page import write_occupancy_page
from mmcity.visualization.occupancy_results import draw_occupancy_result, read_occupancy_result
from mmcity.visualization.occupancy_scene import overlay_occupancy, overlay_points
from mmcity.visualization.occupancy_splats import chase_camera, splat_occupancy

LOW, VOXEL, FREE = (-40.0, -40.0, -1.0), 0.4, 17
FORWARD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.4], [0, 0, 0, 1]])
K = np.array([[50.0, 0, 40], [0, 50, 30], [0, 0, 1]])


def empty():
    return np.full((200, 200, 16), FREE, dtype=np.uint8)


def cell(point):
    return tuple(np.floor((np.array(point) - LOW) / VOXEL).astype(int))


def test_a_voxel_lies_over_the_pixel_that_it_projects_to():
    labels = empty()
    labels[cell((8.2, 2.2, 2.0))] = 4
    image = np.full((60, 80, 3), 100, np.uint8)
    drawn = overlay_occupancy(
        image, occ3d_grid(labels), K, FORWARD, OCC3D_NUSCENES_PALETTE, strength=1.0, stride=1
    )
    rows, cols = np.nonzero((drawn != 100).any(-1))
    # y = 2.2 m is left of the axis by 50 * 2.2 / 8 pixels, z is 0.6 m above the camera.
    assert abs(cols.mean() + 0.5 - (40 - 50 * 2.2 / 8)) < 1.5
    assert abs(rows.mean() + 0.5 - (30 - 50 * 0.6 / 8)) < 1.5
    color = np.median(drawn[rows, cols], 0) / np.array(OCC3D_NUSCENES_PALETTE[4]).clip(1)
    assert color[0] == pytest.approx(0.8, abs=0.02)  # the face towards the car


def test_near_points_hide_far_ones():
    image = np.zeros((60, 80, 3), np.uint8)
    points = np.array([[0.0, 0, 4.0], [0.0, 0, 40.0], [0, 0, -3]])
    both = overlay_points(image, points, K, radius=0)
    near = overlay_points(image, points[:1], K, radius=0)
    np.testing.assert_array_equal(both, near)
    assert (both.any(-1)).sum() == 1 and both[30, 40].any()


def test_splats_show_a_voxel_in_its_colour_where_the_camera_sees_it():
    labels = empty()
    labels[cell((10.0, 0.0, 1.0))] = 4
    size = (120, 180)
    ego_to_cam, camera = chase_camera(size)
    options = ((ego_to_cam, camera), OCC3D_NUSCENES_PALETTE, size)
    picture = splat_occupancy(occ3d_grid(labels), *options)
    centre = (np.array(cell((10.0, 0.0, 1.0))) + 0.5) * VOXEL + LOW
    pixel = camera @ (ego_to_cam[:3, :3] @ centre + ego_to_cam[:3, 3])
    col, row = (pixel[:2] / pixel[2]).astype(int)
    seen, color = picture[row, col].astype(float), np.array(OCC3D_NUSCENES_PALETTE[4], float)
    assert seen @ color > 0.99 * np.linalg.norm(seen) * np.linalg.norm(color)
    assert 0.6 * np.linalg.norm(color) < np.linalg.norm(seen)
    assert (picture[:10] == 255).all()
    assert (splat_occupancy(occ3d_grid(empty()), *options) == 255).all()


def test_page_holds_all_voxels_and_needs_nothing_else(tmp_path):
    labels = empty()
    labels[3, 4, 5], labels[199, 199, 15] = 4, 16
    path = tmp_path / "page.html"
    write_occupancy_page(
        path, {"prediction": labels}, OCC3D_NUSCENES_PALETTE, OCC3D_NUSCENES_CLASSES, FREE,
        title="a </script> b", pictures={"CAM": np.zeros((4, 6, 3), np.uint8)},
    )  # fmt: skip
    text = path.read_text()
    assert not re.search(r"https?://|src=\"(?!data:)|@CONTENT@", text)
    content = json.loads(re.search(r"const data = (\{.*\});\n", text).group(1))
    voxels = np.frombuffer(base64.b64decode(content["volumes"]["prediction"][0]), np.uint8)
    assert voxels.reshape(-1, 4).tolist() == [[3, 4, 5, 4], [199, 199, 15, 16]]
    with pytest.raises(ValueError, match="one shape"):
        write_occupancy_page(path, {"a": labels, "b": labels[:3]}, [], [])


@pytest.mark.parametrize(
    "files, names",
    [
        (["samples/CAM_BACK/1.png", "samples/CAM_FRONT/1.png"], ["CAM_FRONT", "CAM_BACK"]),
        (["rig/left/0001.png", "rig/right/0001.png"], ["left/0001.png", "right/0001.png"]),
        (["a/CAM_FRONT/1.png", "b/CAM_FRONT/1.png"], ["a/CAM_FRONT/1.png", "b/CAM_FRONT/1.png"]),
    ],
)
def test_pictures_of_a_frame_with_equal_base_names_are_all_shown(tmp_path, files, names):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True)
        Image.new("RGB", (80, 60)).save(tmp_path / file)
    dump = {"occ_pred": empty(), "img_path": [str(tmp_path / file) for file in files]}
    (tmp_path / "7.pkl").write_bytes(pickle.dumps(dump))

    page = draw_occupancy_result(tmp_path / "7.pkl", tmp_path / "out")[-1].read_text()

    content = json.loads(re.search(r"const data = (\{.*\});\n", page).group(1))
    assert list(content["pictures"]) == names


def test_dumps_of_the_published_layout_are_drawn(tmp_path):
    labels = empty()
    labels[110, 100, 2] = 11
    image = tmp_path / "CAM_FRONT" / "front.jpg"
    image.parent.mkdir()
    Image.new("RGB", (80, 60)).save(image)
    dump = {"occ_pred": labels.astype(np.int64), "occ_gt": labels,
            "mask_camera": np.ones_like(labels), "img_path": [str(image)]}  # fmt: skip
    (tmp_path / "7.pkl").write_bytes(pickle.dumps(dump))
    files = draw_occupancy_result(tmp_path / "7.pkl", tmp_path / "out")
    assert [f.name for f in files] == ["7.png", "7_pred.png", "7_gt.png", "7.html"]
    assert all(f.stat().st_size > 500 for f in files)

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"occ_pred": Evil()}))
    with pytest.raises(ValueError, match="expected a dumped result"):
        read_occupancy_result(tmp_path / "evil.pkl")
