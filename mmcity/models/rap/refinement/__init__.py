"""Refinement of poses: retrieval, matching, PnP."""

from .learned_matchers import LightGlueMatcher, MASt3RMatcher, RoMaMatcher
from .matching import Matches, SIFTMatcher
from .pnp import PnPError, PnPSolution, solve_pnp
from .refiner import Refinement, RenderMatchRefiner
from .retrieval import ThumbnailRetrieval, VLADRetrieval

__all__ = [
    "LightGlueMatcher",
    "MASt3RMatcher",
    "Matches",
    "PnPError",
    "PnPSolution",
    "Refinement",
    "RenderMatchRefiner",
    "RoMaMatcher",
    "SIFTMatcher",
    "ThumbnailRetrieval",
    "VLADRetrieval",
    "solve_pnp",
]
