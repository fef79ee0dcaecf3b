"""Names of the published checkpoints beside our own."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

#: Blocks of the published backbone that take part in no output start here.
_FIRST_UNUSED_BLOCK = 11

#: (ours, published) with {} for numbers; the longest fitting prefix wins.
_PAIRS = (
    ("backbone.stem.", "backbone.0.body._conv_stem."),
    ("backbone.stem_norm.", "backbone.0.body._bn0."),
    ("backbone.blocks.{}.expand.", "backbone.0.body._blocks.{}._expand_conv."),
    ("backbone.blocks.{}.expand_norm.", "backbone.0.body._blocks.{}._bn0."),
    ("backbone.blocks.{}.depthwise.", "backbone.0.body._blocks.{}._depthwise_conv."),
    ("backbone.blocks.{}.depthwise_norm.", "backbone.0.body._blocks.{}._bn1."),
    ("backbone.blocks.{}.squeeze.", "backbone.0.body._blocks.{}._se_reduce."),
    ("backbone.blocks.{}.excite.", "backbone.0.body._blocks.{}._se_expand."),
    ("backbone.blocks.{}.project.", "backbone.0.body._blocks.{}._project_conv."),
    ("backbone.blocks.{}.project_norm.", "backbone.0.body._blocks.{}._bn2."),
    ("positions.rows.", "backbone.1.row_embed."),
    ("positions.columns.", "backbone.1.col_embed."),
    ("positions.tokens.", "backbone.1.pose_token_embed."),
    *(
        pair
        for ours, theirs in (("translation", "t"), ("rotation", "rot"))
        for pair in (
            (f"{ours}.token", f"pose_token_embed_{theirs}"),
            (f"{ours}.input_proj.", f"input_proj_{theirs}."),
            (
                f"{ours}.encoder.layers.{{}}.in_proj.",
                f"transformer_{theirs}.encoder.layers.{{}}.self_attn.in_proj_",
            ),
            (
                f"{ours}.encoder.layers.{{}}.out_proj.",
                f"transformer_{theirs}.encoder.layers.{{}}.self_attn.out_proj.",
            ),
            (f"{ours}.encoder.layers.{{}}.", f"transformer_{theirs}.encoder.layers.{{}}."),
            (f"{ours}.encoder.norm.", f"transformer_{theirs}.encoder.norm."),
            (f"{ours}.head.hidden.", f"regressor_head_{theirs}.fc_h."),
            (f"{ours}.head.out.", f"regressor_head_{theirs}.fc_o."),
        )
    ),
    ("adaptation.{}.", "adaptation_layers.adapt_layer_{}."),
)


def _patterns(source: int) -> list[tuple[re.Pattern, str]]:
    pairs = sorted(_PAIRS, key=lambda pair: -len(pair[source]))
    return [
        (re.compile(re.escape(pair[source]).replace(r"\{\}", r"(\d+)")), pair[1 - source])
        for pair in pairs
    ]


_TO_OURS, _TO_THEIRS = _patterns(1), _patterns(0)


def _rename(key: str, patterns: list[tuple[re.Pattern, str]]) -> str:
    for pattern, target in patterns:
        found = pattern.match(key)
        if found:
            return target.format(*found.groups()) + key[found.end() :]
    return key


def is_unused(key: str) -> bool:
    """Whether a published tensor takes part in no output (late blocks, classifier)."""
    key = key.removeprefix("_orig_mod.")
    if re.match(r"backbone\.0\.body\.(_conv_head|_bn1|_fc)\.", key):
        return True
    block = re.match(r"backbone\.0\.body\._blocks\.(\d+)\.", key)
    return block is not None and int(block.group(1)) >= _FIRST_UNUSED_BLOCK


def from_published(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Our names for a published state dict; names that are unknown stay as they are.

    Returns:
        tuple: The renamed tensors, and the published names left out because no output of the
        network depends on them.
    """
    unused = [key for key in weights if is_unused(key)]
    renamed = {
        _rename(key.removeprefix("_orig_mod."), _TO_OURS): value
        for key, value in weights.items()
        if not is_unused(key)
    }
    return renamed, unused


def imagenet_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for an EfficientNet of ImageNet in the names of EfficientNet-PyTorch.

    What takes part in no output of a pose network, and counters of batches, are left out.
    """
    renamed, _ = from_published({f"backbone.0.body.{key}": v for key, v in weights.items()})
    return {key.removeprefix("backbone."): value for key, value in renamed.items()}


def to_published(keys: Iterable[str]) -> dict[str, str]:
    """Published names of our keys."""
    return {key: _rename(key, _TO_THEIRS) for key in keys}
