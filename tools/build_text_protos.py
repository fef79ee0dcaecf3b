"""Text prototypes of a vocabulary: what Gaussians' features are compared with.

``python tools/build_text_protos.py --prompts configs/gausstr/vocabularies/occ3d.yaml
--encoder talk2dino --weights FILE --clip-weights FILE --out ckpts/text_protos.pth``
"""

import argparse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Embed the prompts of a vocabulary")
    parser.add_argument("--prompts", required=True, help="vocabulary (YAML)")
    parser.add_argument("--encoder", required=True, choices=["clip", "talk2dino", "npy"])
    parser.add_argument("--weights", required=True, help="file of the encoder, or of embeddings")
    parser.add_argument("--clip-weights", help="file of CLIP, with --encoder talk2dino")
    parser.add_argument(
        "--template", nargs="+", default=["{}"], help="sentences with {} for the prompt"
    )
    parser.add_argument("--normalize", choices=["none", "l2"], default="none")
    parser.add_argument("--out", required=True, help=".pth file to write")
    args = parser.parse_args(argv)
    if args.encoder == "talk2dino" and not args.clip_weights:
        parser.error("--encoder talk2dino needs --clip-weights")
    return args


def main(argv: list[str] | None = None) -> None:
    """Embed and write."""
    args = parse_args(argv)

    from mmcity.apis.occupancy.text_prototypes import (
        clip_encoder,
        embed_prompts,
        stored_encoder,
        talk2dino_encoder,
    )
    from mmcity.models.gausstr import load_vocabulary, save_prototypes

    vocabulary = load_vocabulary(args.prompts)
    if args.encoder == "clip":
        encoder = clip_encoder(args.weights)
    elif args.encoder == "talk2dino":
        encoder = talk2dino_encoder(args.weights, args.clip_weights)
    else:
        encoder = stored_encoder(args.weights)
    embeds = embed_prompts(encoder, vocabulary.prompts, args.template, args.normalize)
    save_prototypes(args.out, embeds, vocabulary)
    print(f"{args.out}: {embeds.shape[1]} prompts, {embeds.shape[0]} channels")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
