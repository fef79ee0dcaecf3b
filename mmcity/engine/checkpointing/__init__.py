"""Checkpoints: safe reading, atomic writing, exact resume, shards."""

from .codec import CheckpointContentError, decode_checkpoint, encode_checkpoint
from .loader import (
    CheckpointError,
    UnsafeCheckpointError,
    find_checkpoint,
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
from .shards import (
    SHARDS,
    fill_rows,
    merge_shards,
    read_rows,
    replace_rows,
    scene_tables,
    write_shard,
)
from .storage import AtomicLocalBackend, DeferredRemoval
from .verify import check_is_checkpoint, check_is_resumable, check_matches_model, compare_entries
from .weights import load_checkpoint_weights, load_weights, require_checkpoint

__all__ = [
    "AtomicLocalBackend",
    "CheckpointContentError",
    "CheckpointError",
    "DeferredRemoval",
    "SHARDS",
    "UnsafeCheckpointError",
    "check_is_checkpoint",
    "check_is_resumable",
    "check_matches_model",
    "compare_entries",
    "decode_checkpoint",
    "encode_checkpoint",
    "fill_rows",
    "find_checkpoint",
    "gather_random_states",
    "get_random_state",
    "is_unsafe_load_allowed",
    "load_checkpoint_weights",
    "load_from_http",
    "load_from_local",
    "load_weights",
    "require_checkpoint",
    "merge_shards",
    "preserved_random_state",
    "read_rows",
    "replace_rows",
    "scene_tables",
    "set_random_state",
    "write_shard",
]
