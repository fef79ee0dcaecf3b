from .iter_based_train_loop import ResumableIterBasedTrainLoop
from .resumable_stream import BatchStream

__all__ = ["BatchStream", "ResumableIterBasedTrainLoop"]
