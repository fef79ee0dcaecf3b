"""GaussTR: self-supervised 3D occupancy from surround cameras."""

from .decoder import GaussTRDecoder
from .gausstr import GaussTR
from .head import GaussTRHead
from .labelling import OCC3D_VOCABULARY, Vocabulary
from .mlp import MLP
from .neck import ViTDetFPN
from .vocabulary_files import load_prototypes, load_vocabulary, save_prototypes, save_vocabulary
from .voxelizer import GaussianVoxelizer

__all__ = [
    "MLP",
    "OCC3D_VOCABULARY",
    "GaussTR",
    "GaussTRDecoder",
    "GaussTRHead",
    "GaussianVoxelizer",
    "ViTDetFPN",
    "Vocabulary",
    "load_prototypes",
    "load_vocabulary",
    "save_prototypes",
    "save_vocabulary",
]
