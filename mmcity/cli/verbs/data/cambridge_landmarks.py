"""Convert a scene of Cambridge Landmarks for pose regression.

SOURCE is one scene of the original archive (dataset_train.txt, dataset_test.txt,
reconstruction.nvm and the sequences). Layout "poses" gives what the dataset CambridgeLandmarks
reads, "colmap" a COLMAP scene with list_test.txt and the points of the NVM file.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data cambridge-landmarks ShopFacade data/shop --layout colmap"


def _show(photos, args):
    for split, (taken, left_out) in photos.items():
        print(f"{split}: {taken} photos, {left_out} left out (not reconstructed)")
    print(f"wrote {args.out}")


add_arguments, run = command(
    "mmcity.datasets.converters.cambridge_landmarks:convert_cambridge_landmarks", "source out",
    _show, layout=("poses", "colmap"),
)  # fmt: skip
