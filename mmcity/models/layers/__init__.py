"""Layers that several systems share."""

from .attention import Attend, Attention, frame_causal_attention
from .conv_stem import ConvStem
from .flex_frame_causal import flex_frame_causal_attention
from .mlp import Mlp, SwiGLU
from .placement import Placement, frame_in_state, frame_to_state
from .resizable import HostNumbers, ResizableModule, edit_parameters
from .rope import apply_rope, rope_tables_2d
from .scene_model import SceneModel, SplatSceneModel, image_ids, loss_scaler
from .splat_table import SplatTable
from .strategy import Strategy
from .training_views import TrainingViews
from .transformer_block import LayerScale, TransformerBlock
from .vision_transformer import DinoVisionTransformer, PatchEmbed

__all__ = [
    "Attend",
    "Attention",
    "ConvStem",
    "DinoVisionTransformer",
    "HostNumbers",
    "LayerScale",
    "Mlp",
    "PatchEmbed",
    "Placement",
    "ResizableModule",
    "SceneModel",
    "SplatSceneModel",
    "SplatTable",
    "Strategy",
    "SwiGLU",
    "TrainingViews",
    "TransformerBlock",
    "apply_rope",
    "edit_parameters",
    "flex_frame_causal_attention",
    "frame_causal_attention",
    "frame_in_state",
    "frame_to_state",
    "image_ids",
    "loss_scaler",
    "rope_tables_2d",
]
