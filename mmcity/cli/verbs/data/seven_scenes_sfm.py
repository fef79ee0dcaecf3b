"""Convert a scene of 7-Scenes, with poses of structure from motion, to a COLMAP scene.

SOURCE is one original scene (seq-NN/frame-XXXXXX.color.png); the pose files are the public ones
with lines "file qw qx qy qz tx ty tz f" (world to camera). OUT gets a list_test.txt and no 3D
points: maps start from random ones (model.init.source=random), or triangulate.
"""

import argparse

EXAMPLE = "mmcity data seven-scenes-sfm chess data/chess --poses train.txt --test-poses test.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the conversion."""
    parser.add_argument("source", help="folder of one original scene")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--poses", required=True, nargs="+", help="text files of training poses")
    parser.add_argument("--test-poses", required=True, nargs="+", help="text files of test poses")
    parser.add_argument("--copy", action="store_true", help="copy images instead of linking them")


def run(args: argparse.Namespace) -> None:
    """Convert one scene."""
    from mmcity.datasets.converters import convert_seven_scenes

    count = convert_seven_scenes(**vars(args))
    print(f"{count['train']} training and {count['test']} test images, wrote {args.out}")
