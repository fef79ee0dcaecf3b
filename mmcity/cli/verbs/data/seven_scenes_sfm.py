"""Convert a scene of 7-Scenes, with poses of structure from motion, to a COLMAP scene.

SOURCE is one original scene (seq-NN/frame-XXXXXX.color.png); the pose files are the public ones
with lines "file qw qx qy qz tx ty tz f" (world to camera). OUT gets a list_test.txt and no 3D
points: maps start from random ones (model.init.source=random), or triangulate.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data seven-scenes-sfm chess data/chess --poses train.txt --test-poses test.txt"


def _show(count, args):
    print(f"{count['train']} training and {count['test']} test images, wrote {args.out}")


add_arguments, run = command(
    "mmcity.datasets.converters.seven_scenes_sfm:convert_seven_scenes", "source out", _show
)
