"""Videos with depth and poses: layouts on disk, sampling of clips, datasets."""

from .eval_layouts import EVAL_LAYOUTS
from .frames import DepthFormat, SequenceFileError, SequenceFrame, VideoSequence, read_depth
from .overlap import ImageGroups, OverlapGraph
from .sampling import ClipSampling, assemble_epoch, sample_clip, sample_overlap_walk
from .sequence_dataset import ClipDataset, EvalSequenceDataset, MixtureDataset, MixtureSampler
from .train_layouts import TRAIN_LAYOUTS, TrainLayout

__all__ = [
    "EVAL_LAYOUTS",
    "TRAIN_LAYOUTS",
    "ClipDataset",
    "ClipSampling",
    "DepthFormat",
    "EvalSequenceDataset",
    "ImageGroups",
    "MixtureDataset",
    "MixtureSampler",
    "OverlapGraph",
    "SequenceFileError",
    "SequenceFrame",
    "TrainLayout",
    "VideoSequence",
    "assemble_epoch",
    "read_depth",
    "sample_clip",
    "sample_overlap_walk",
]
