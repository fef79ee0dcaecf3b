"""Make the info files (format v2) of nuScenes from its raw tables.

They are EXTRA-TAG_infos_{train,val}.pkl, or _test.pkl for v1.0-test, with the names of the
scenes, by which Occ3D's folders are called. mmdet3d reads them, too.
"""

from mmcity.cli.options import command

EXAMPLE = "mmcity data nuscenes data/nuscenes --version v1.0-trainval"


def _show(files, _):
    for path, (scenes, frames) in files.items():
        print(f"{path}: {scenes} scenes, {frames} key frames")


add_arguments, run = command("mmcity.datasets.converters.nuscenes:convert_nuscenes", "root", _show)
