from .matching import Matches, SIFTMatcher
from .pnp import PnPError, PnPSolution, solve_pnp
from .refiner import Refinement, RenderMatchRefiner

__all__ = [
    "Matches",
    "PnPError",
    "PnPSolution",
    "Refinement",
    "RenderMatchRefiner",
    "SIFTMatcher",
    "solve_pnp",
]
