"""Embed the prompts of a vocabulary: what Gaussians' features are compared with."""

from mmcity.cli.options import command

EXAMPLE = (
    "python tools/build_text_protos.py --prompts configs/gausstr/vocabularies/occ3d.yaml"
    " --encoder talk2dino --weights FILE --clip-weights FILE --out ckpts/text_protos.pth"
)


def _show(embeds, args):
    print(f"{args.out}: {embeds.shape[1]} prompts, {embeds.shape[0]} channels")


add_arguments, run = command(
    "mmcity.apis.occupancy.text_prototypes:build_text_prototypes", "", _show,
    encoder=("clip", "talk2dino", "npy"), templates="--template", normalize=("none", "l2"),
)  # fmt: skip
