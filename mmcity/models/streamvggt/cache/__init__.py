"""Key-value cache of the streaming transformer."""

from .kv_store import KVStore
from .policies import CachePolicy, ChunkPolicy, FullPolicy, KnnPolicy, WindowPolicy, build_policy
from .stream_cache import CAMERA_CACHE_MODES, StreamCache
from .token_policies import AttentionPolicy, DiversityPolicy, QueryPolicy, TokenPolicy

__all__ = [
    "CAMERA_CACHE_MODES",
    "AttentionPolicy",
    "CachePolicy",
    "ChunkPolicy",
    "DiversityPolicy",
    "FullPolicy",
    "KVStore",
    "KnnPolicy",
    "QueryPolicy",
    "StreamCache",
    "TokenPolicy",
    "WindowPolicy",
    "build_policy",
]
