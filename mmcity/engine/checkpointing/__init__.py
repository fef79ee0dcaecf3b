from .codec import CheckpointContentError, decode_checkpoint, encode_checkpoint
from .loader import (
    CheckpointError,
    UnsafeCheckpointError,
    is_unsafe_load_allowed,
    load_from_http,
    load_from_local,
)
from .random_state import (
    gather_random_states,
    get_random_state,
    preserved_random_state,
    set_random_state,
)
from .storage import AtomicLocalBackend, DeferredRemoval
from .verify import check_is_checkpoint, check_is_resumable, check_matches_model
from .weights import load_checkpoint_weights

__all__ = [
    "AtomicLocalBackend",
    "CheckpointContentError",
    "CheckpointError",
    "DeferredRemoval",
    "UnsafeCheckpointError",
    "check_is_checkpoint",
    "check_is_resumable",
    "check_matches_model",
    "decode_checkpoint",
    "encode_checkpoint",
    "gather_random_states",
    "get_random_state",
    "is_unsafe_load_allowed",
    "load_checkpoint_weights",
    "load_from_http",
    "load_from_local",
    "preserved_random_state",
    "set_random_state",
]
