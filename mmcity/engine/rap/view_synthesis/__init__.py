"""Synthesis of training views from a Gaussian map."""

from .budget import SetPlan, UniformBudget, ValueBudget
from .executors import EXECUTORS, SynthesisError, make_executor
from .observability import MapObservability
from .synthesizer import SynthesisSpec, ViewSet, ViewSynthesizer, build_synthesizer

__all__ = [
    "EXECUTORS",
    "MapObservability",
    "SetPlan",
    "SynthesisError",
    "SynthesisSpec",
    "UniformBudget",
    "ValueBudget",
    "ViewSet",
    "ViewSynthesizer",
    "build_synthesizer",
    "make_executor",
]
