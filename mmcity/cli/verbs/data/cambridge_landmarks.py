"""Convert a scene of Cambridge Landmarks for pose regression.

SOURCE is one scene of the original archive (dataset_train.txt, dataset_test.txt,
reconstruction.nvm and the sequences). Layout "poses" gives what the dataset CambridgeLandmarks
reads, "colmap" a COLMAP scene with list_test.txt and the points of the NVM file.
"""

import argparse

EXAMPLE = "mmcity data cambridge-landmarks ShopFacade data/shop --layout colmap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the conversion."""
    parser.add_argument("source", help="folder of one original scene")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--layout", default="poses", choices=("poses", "colmap"))
    parser.add_argument("--short-side", type=int, default=480, help="px, 0 keeps the size")
    parser.add_argument("--quality", type=int, default=100, help="of the JPEG files")


def run(args: argparse.Namespace) -> None:
    """Convert one scene."""
    from mmcity.datasets.converters import convert_cambridge_landmarks

    for split, (taken, left_out) in convert_cambridge_landmarks(**vars(args)).items():
        print(f"{split}: {taken} photos, {left_out} left out (not reconstructed)")
    print(f"wrote {args.out}")
