from .occupancy import FlipXYT, MakeCommand, MakeLayout, MakeTrajectory, PackOccInputs

__all__ = ["FlipXYT", "MakeCommand", "MakeLayout", "MakeTrajectory", "PackOccInputs"]
