from .executors import EXECUTORS, SynthesisError, make_executor
from .synthesizer import SynthesisSpec, ViewSet, ViewSynthesizer, build_synthesizer

__all__ = [
    "EXECUTORS",
    "SynthesisError",
    "SynthesisSpec",
    "ViewSet",
    "ViewSynthesizer",
    "build_synthesizer",
    "make_executor",
]
