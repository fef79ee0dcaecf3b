from .attention import Attend, Attention, frame_causal_attention
from .mlp import Mlp, SwiGLU
from .rope import apply_rope, rope_tables_2d
from .transformer_block import LayerScale, TransformerBlock
from .vision_transformer import DinoVisionTransformer, PatchEmbed

__all__ = [
    "Attend",
    "Attention",
    "DinoVisionTransformer",
    "LayerScale",
    "Mlp",
    "PatchEmbed",
    "SwiGLU",
    "TransformerBlock",
    "apply_rope",
    "frame_causal_attention",
    "rope_tables_2d",
]
