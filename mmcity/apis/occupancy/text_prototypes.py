"""Text embeddings of a vocabulary's prompts, with which Gaussians are named."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.models.gausstr import load_vocabulary, save_prototypes
from mmcity.utils.checks import check_choice
from mmcity.utils.dependencies import import_library
from mmcity.utils.device import device_at_hand
from mmcity.utils.fileio import read_arrays
from mmcity.utils.torch_files import read_torch

#: Maps texts to embeddings ``(P, C)``.
TextEncoder = Callable[[Sequence[str]], Tensor]


def clip_encoder(weights: str | Path, device: str | None = None) -> TextEncoder:
    """CLIP's text encoder; needs the package ``clip``.

    Args:
        weights: The published file (such as ``ViT-B-16.pt``), by path.
        device: Where it runs. Defaults to ``cuda`` where there is one, else ``cpu``.

    Raises:
        ImportError: If the package is missing.
        FileNotFoundError: If the weights are.
    """
    clip = import_library("clip", "encoder 'clip'", "install OpenAI's package from its repository")
    if not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: expected the weights, found no such file")
    device = device_at_hand(device)
    model, _ = clip.load(str(weights), device=device)

    def encode(texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return model.encode_text(clip.tokenize(list(texts)).to(device)).float().cpu()

    return encode


def talk2dino_encoder(
    weights: str | Path, clip_weights: str | Path, device: str | None = None
) -> TextEncoder:
    """CLIP's text embedding (512) carried into DINOv2's space (768) by Talk2DINO.

    Talk2DINO (arXiv 2411.19331) maps with linear layers, two as published, and a tanh between.

    Args:
        weights: Its state dict: weight and bias of ``linear_layer``, then of
            ``hidden_layers.0``, ... as published, or of ``linear_layer2``.
        clip_weights: CLIP's file.
        device: Of CLIP. Defaults to ``cuda`` where there is one, else ``cpu``.

    Raises:
        ValueError: If the file lacks a layer.
    """
    state = read_torch(weights)
    hidden = [f"hidden_layers.{i}" for i in range(len(state) // 2)]
    names = ["linear_layer", *(name for name in hidden if f"{name}.weight" in state)]
    if len(names) == 1:
        names.append("linear_layer2")
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if expected != {*state}:
        raise ValueError(f"{weights}: expected {sorted(expected)}, got {sorted(state)}")
    layers = [(state[f"{name}.weight"].float(), state[f"{name}.bias"].float()) for name in names]
    encode_text = clip_encoder(clip_weights, device)

    def encode(texts: Sequence[str]) -> Tensor:
        values = F.linear(encode_text(texts), *layers[0])
        for layer in layers[1:]:
            values = F.linear(values.tanh(), *layer)
        return values

    return encode


def stored_encoder(path: str | Path) -> TextEncoder:
    """Embeddings that were made elsewhere.

    Args:
        path: ``.npz`` with one array ``(C,)`` per text, or ``.npy`` ``(P, C)`` in the order of
            the prompts.
    """
    stored = read_arrays(path)

    def encode(texts: Sequence[str]) -> Tensor:
        if Path(path).suffix == ".npy":
            rows = stored["data"]
            if len(rows) != len(texts):
                raise ValueError(f"{path}: expected {len(texts)} embeddings, got {len(rows)}")
            return torch.from_numpy(rows).float()
        missing = [text for text in texts if text not in stored]
        if missing:
            raise ValueError(f"{path}: expected an embedding of {missing}, got none")
        return torch.from_numpy(np.stack([stored[text] for text in texts])).float()

    return encode


def embed_prompts(
    encoder: TextEncoder,
    prompts: Sequence[str],
    templates: Sequence[str] = ("{}",),
    normalize: str = "none",
) -> Tensor:
    """Prototypes of prompts.

    Args:
        encoder: Embeds texts.
        prompts: P words or phrases.
        templates: Sentences with ``{}`` for the prompt; their embeddings are averaged.
            Defaults to the bare prompt.
        normalize: ``none``, or ``l2`` for unit length. Defaults to ``none``.

    Returns:
        float32 ``(C, P)``.
    """
    check_choice("normalize", normalize, ("none", "l2"))
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"template: expected a {{}} for the prompt, got {template!r}")
    embedded = []
    for template in templates:
        rows = encoder([template.replace("{}", prompt) for prompt in prompts])
        embedded.append(F.normalize(rows, dim=-1) if normalize == "l2" else rows)
    mean = torch.stack(embedded).mean(0)
    return (F.normalize(mean, dim=-1) if normalize == "l2" else mean).T.contiguous()


def build_text_prototypes(
    prompts: str | Path,
    encoder: str,
    weights: str | Path,
    out: str | Path,
    *,
    clip_weights: str | Path | None = None,
    templates: Sequence[str] = ("{}",),
    normalize: str = "none",
) -> Tensor:
    """Embed the prompts of a vocabulary file and write the prototypes.

    Args:
        prompts: Vocabulary (YAML).
        encoder: ``clip``, ``talk2dino``, or ``npy`` for stored embeddings.
        weights: File of the encoder, or of embeddings.
        out: ``.pth`` file to write.
        clip_weights: File of CLIP, which ``talk2dino`` needs. Defaults to None.
        templates: Sentences with ``{}`` for the prompt; their embeddings are averaged.
            Defaults to the bare prompt.
        normalize: ``none``, or ``l2`` for unit length. Defaults to ``none``.

    Returns:
        float32 ``(C, P)``.

    Raises:
        ValueError: If ``talk2dino`` comes without ``clip_weights``.
    """
    vocabulary = load_vocabulary(prompts)
    if encoder == "talk2dino":
        if clip_weights is None:
            raise ValueError("clip_weights: expected a file with encoder talk2dino, got none")
        encode = talk2dino_encoder(weights, clip_weights)
    else:
        encode = {"clip": clip_encoder, "npy": stored_encoder}[encoder](weights)
    embeds = embed_prompts(encode, vocabulary.prompts, templates, normalize)
    save_prototypes(out, embeds, vocabulary)
    return embeds
