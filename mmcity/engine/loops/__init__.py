"""Training loop with exact resume, and tests that compare models."""

from .comparison_loop import ComparisonTestLoop, ComparisonValLoop, comparison_table
from .forgiving_loops import ForgivingTestLoop, ForgivingValLoop, SoundBatches
from .iter_based_train_loop import ResumableIterBasedTrainLoop
from .resumable_stream import BatchStream

__all__ = [
    "BatchStream",
    "ComparisonTestLoop",
    "ComparisonValLoop",
    "ForgivingTestLoop",
    "ForgivingValLoop",
    "ResumableIterBasedTrainLoop",
    "SoundBatches",
    "comparison_table",
]
