"""Download published weights, check and convert them; a broken download goes on."""

from mmcity.cli.options import command

EXAMPLE = "mmcity weights get vggt_1b"
add_arguments, run = command("mmcity.apis.weights:get_weights", "name", show_progress=None)
