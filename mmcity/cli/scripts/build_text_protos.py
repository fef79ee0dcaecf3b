"""Embed the prompts of a vocabulary: what Gaussians' features are compared with."""

import argparse

EXAMPLE = (
    "python tools/build_text_protos.py --prompts configs/gausstr/vocabularies/occ3d.yaml"
    " --encoder talk2dino --weights FILE --clip-weights FILE --out ckpts/text_protos.pth"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the embedding."""
    parser.add_argument("--prompts", required=True, help="vocabulary (YAML)")
    parser.add_argument("--encoder", required=True, choices=["clip", "talk2dino", "npy"])
    parser.add_argument("--weights", required=True, help="file of the encoder, or of embeddings")
    parser.add_argument("--clip-weights", help="file of CLIP, with --encoder talk2dino")
    parser.add_argument(
        "--template",
        dest="templates",
        nargs="+",
        default=["{}"],
        help="sentences with {} for the prompt",
    )
    parser.add_argument("--normalize", choices=["none", "l2"], default="none")
    parser.add_argument("--out", required=True, help=".pth file to write")


def run(args: argparse.Namespace) -> None:
    """Embed and write."""
    from mmcity.apis.occupancy.text_prototypes import build_text_prototypes

    embeds = build_text_prototypes(**vars(args))
    print(f"{args.out}: {embeds.shape[1]} prompts, {embeds.shape[0]} channels")
