"""Strategies that add, move and remove Gaussians."""

from mmcity.models.layers import Strategy

from .default import DefaultStrategy
from .mcmc import MCMCStrategy

__all__ = ["DefaultStrategy", "MCMCStrategy", "Strategy"]
