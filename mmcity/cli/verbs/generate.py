"""Generate clips of semantic occupancy."""

from mmcity.cli.options import command

EXAMPLE = (
    "mmcity generate configs/dynamiccity/dynamiccity_dit_toytown_cpu.py work_dirs/dit/iter_2000.pth"
    " --vae-checkpoint work_dirs/vae/iter_1000.pth --out clips --command 1"
)


add_arguments, run = command(
    "mmcity.apis.occupancy.generate_clips:generate_clips", "config checkpoint", None,
    out_dir="--out", num_samples="-n --num-samples", num_windows="-l --num-windows",
    layouts="--layout", region=dict(nargs=4, metavar=("X0", "Y0", "X1", "Y1")),
    frames=dict(nargs=2, metavar=("FIRST", "END")), guidance_scale="--cfg-scale",
    repaint=dict(nargs=2, metavar=("JUMP_LENGTH", "JUMP_N")), sampler=("ddpm", "ddim", "dpm++"),
    cfg_options=dict(example="model.guidance_scale=2.0"),
)  # fmt: skip
