"""Export the latent planes of a VAE as rollouts, the training data of the diffusion stage.

Under torchrun the clips are shared out over the processes. Files that are up to date are kept.
"""

from mmcity.cli.options import command

EXAMPLE = (
    "python tools/export_rollouts.py configs/dynamiccity/dynamiccity_vae_toytown_cpu.py"
    " work_dirs/dynamiccity_vae_toytown_cpu/iter_9000.pth --out data/rollout/toytown"
)


def _show(indices, _):
    for folder, index in indices.items():
        print(f"{folder}: {len(index['windows'])} rollouts, txyz = {index['txyz']}")


add_arguments, run = command(
    "mmcity.engine.dynamiccity.rollout_export:export_checkpoint_rollouts", "config checkpoint",
    _show, out_dir="--out", splits=("train", "val", "test"), dtype=("float16", "float32"),
)  # fmt: skip
