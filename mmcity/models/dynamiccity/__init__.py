"""DynamicCity: HexPlane VAE and HexPlane diffusion transformer."""

from .dit import HexPlaneDiT
from .feature_net import OccFeatureNet
from .latent_diffusion import HexPlaneDiffusion
from .resampler import OccResampler
from .samplers import AncestralSampler, DDIMSampler, DPMSolverSampler
from .vae import HexPlaneVAE

__all__ = [
    "AncestralSampler",
    "DDIMSampler",
    "DPMSolverSampler",
    "HexPlaneDiT",
    "HexPlaneDiffusion",
    "HexPlaneVAE",
    "OccFeatureNet",
    "OccResampler",
]
