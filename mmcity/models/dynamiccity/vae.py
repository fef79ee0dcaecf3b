"""HexPlane VAE: 4D occupancy to six latent planes and back."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmcity.models.layers.batches import stacked
from mmcity.models.losses.occupancy import LovaszSoftmaxLoss, WeightedCrossEntropyLoss
from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.checks import check_choice

from .decoder import ExpansionSqueezeDecoder, QueryDecoder
from .encoder import HexPlaneEncoder
from .hexplane import plane_sizes


def hexplane_kl(mus: Sequence[Tensor], logvars: Sequence[Tensor]) -> Tensor:
    """KL divergence of the plane posteriors from N(0, 1), per latent element."""
    total = sum(
        -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum() for mu, logvar in zip(mus, logvars)
    )
    return total / sum(mu.numel() for mu in mus)


class LatentHeads(nn.Module):
    """One linear map per plane from features to mean and log-variance.

    Args:
        channels: Channels C of the planes.
        planes: Number of planes. Defaults to 6.
        initial_logvar: Log-variance to start from. Defaults to None: as the layers come,
            about 0, so that the first noise is as large as a standard latent.
    """

    def __init__(self, channels: int, planes: int = 6, initial_logvar: float | None = None) -> None:
        super().__init__()
        self.fc_mu_logvar = nn.ModuleList(nn.Linear(channels, 2 * channels) for _ in range(planes))
        if initial_logvar is not None:
            for head in self.fc_mu_logvar:
                nn.init.zeros_(head.weight[channels:])
                nn.init.constant_(head.bias[channels:], initial_logvar)

    def forward(self, planes: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Planes ``(B, C, a, b)`` to means and log-variances of the same shapes."""
        mus, logvars = [], []
        for head, plane in zip(self.fc_mu_logvar, planes):
            mu, logvar = head(plane.movedim(1, -1)).movedim(-1, 1).chunk(2, dim=1)
            mus.append(mu)
            logvars.append(logvar)
        return mus, logvars


@MODELS.register_module()
class HexPlaneVAE(BaseModel):
    """Variational autoencoder of occupancy clips (DynamicCity, arXiv 2410.18084).

    Args:
        num_classes: Label slots K, class 0 = free.
        spatial_size: Grid ``(X, Y, Z)``.
        sequence_length: Frames T of a clip.
        latent_channels: Channels C of the planes. Defaults to 16.
        query_channels: Channels Q of the squeezed volume. Defaults to 64.
        down: Halvings of x, y, z on voxels. Defaults to (1, 1, 1).
        hex_down: Halvings of t, x, y, z on planes. Defaults to (1, 0, 0, 0).
        vae: False gives a plain autoencoder without KL term. Defaults to True.
        initial_logvar: Log-variance of the latents to start from; -5 makes short trainings
            learn several times faster. Defaults to None (about 0, as published).
        projector: ``transformer`` (the paper's Projection Module) or ``average`` (its baseline).
        decoder_type: ``conv`` (Expansion & Squeeze) or ``query`` (the ablation's baseline).
        hadamard: Squeeze by product (True) or sum. Defaults to True.
        pe_freq: Octaves of the positional encoding. Defaults to 3.
        columns: Hidden width of a path beside projection and squeeze that folds all voxels of
            a column (every frame and height) into its cell of the xy plane, and unfolds the
            cell to the column's logits, by weights of their own. Short trainings need it.
            Defaults to None (as published).
        kernel: Edge of the convolutions' kernels; 1 codes columns of voxels each by itself,
            which is learned within minutes and leaves what is thin sharp. Defaults to 3.
        norm: Normalise features over each frame and plane. Without it the code of a place does
            not depend on what else a clip shows, which small crops need. Defaults to True.
        conv_hidden_low_res, conv_hidden_high_res: Widths of the voxel decoder.
        mlp_hidden_channels, mlp_hidden_layers: Size of the query decoder.
        class_frequencies: Voxel counts per class for the cross-entropy weights.
        loss_weights: Factors of ``ce``, ``lovasz``, ``kl``.
            Defaults to dict(ce=1.0, lovasz=1.0, kl=0.0015).
        with_checkpoint: Gradient checkpointing. Defaults to False.
        data_preprocessor: Config. Defaults to :class:`PinnedDataPreprocessor`.
        init_cfg: As in mmengine.
        **encoder: Further arguments of :class:`HexPlaneEncoder`.
    """

    def __init__(
        self,
        num_classes: int = 12,
        spatial_size: Sequence[int] = (128, 128, 8),
        sequence_length: int = 16,
        latent_channels: int = 16,
        query_channels: int = 64,
        down: Sequence[int] = (1, 1, 1),
        hex_down: Sequence[int] = (1, 0, 0, 0),
        vae: bool = True,
        initial_logvar: float | None = None,
        projector: str = "transformer",
        decoder_type: str = "conv",
        hadamard: bool = True,
        pe_freq: int = 3,
        columns: int | None = None,
        kernel: int = 3,
        norm: bool = True,
        conv_hidden_low_res: int = 128,
        conv_hidden_high_res: int = 32,
        mlp_hidden_channels: int = 256,
        mlp_hidden_layers: int = 4,
        class_frequencies: Sequence[float] | None = None,
        loss_weights: dict | None = None,
        with_checkpoint: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **encoder,
    ) -> None:
        super().__init__(data_preprocessor or PinnedDataPreprocessor(), init_cfg)
        check_choice("decoder_type", decoder_type, ("conv", "query"))
        if class_frequencies is not None and len(class_frequencies) != num_classes:
            raise ValueError(
                f"class_frequencies: expected num_classes = {num_classes} entries, got "
                f"{len(class_frequencies)}"
            )
        weights = {"ce": 1.0, "lovasz": 1.0, "kl": 0.0015, **(loss_weights or {})}
        self.num_classes = num_classes
        self.latent_channels = latent_channels
        self.sequence_length = sequence_length
        self.txyz = self.latent_sizes(sequence_length, spatial_size, down, hex_down)
        shared = dict(
            num_classes=num_classes,
            latent_channels=latent_channels,
            with_checkpoint=with_checkpoint,
        )
        sizes = dict(spatial_size=spatial_size, sequence_length=sequence_length)
        convolutions = dict(down=down, hex_down=hex_down, kernel=kernel, norm=norm)
        # The fold belongs to the Projection Module, as the unfold to Expansion & Squeeze.
        fold = columns if projector == "transformer" else None
        self.encoder = HexPlaneEncoder(
            **shared, **sizes, **convolutions, projector=projector, columns=fold, **encoder
        )
        self.vae = None
        if vae:
            self.vae = LatentHeads(latent_channels, initial_logvar=initial_logvar)
        shared.update(pe_freq=pe_freq, hadamard=hadamard)
        if decoder_type == "conv":
            self.decoder = ExpansionSqueezeDecoder(
                **shared,
                **convolutions,
                query_channels=query_channels,
                conv_hidden_low_res=conv_hidden_low_res,
                conv_hidden_high_res=conv_hidden_high_res,
                columns=None if columns is None else (sequence_length, spatial_size[2]),
            )
        else:
            self.decoder = QueryDecoder(
                **shared,
                **sizes,
                hidden_channels=mlp_hidden_channels,
                hidden_layers=mlp_hidden_layers,
            )
        self.loss_ce = WeightedCrossEntropyLoss(class_frequencies, weights["ce"])
        self.loss_lovasz = LovaszSoftmaxLoss(weights["lovasz"])
        self.kl_weight = weights["kl"]

    @staticmethod
    def latent_sizes(
        frames: int, spatial_size: Sequence[int], down: Sequence[int], hex_down: Sequence[int]
    ) -> tuple[int, int, int, int]:
        """Latent sizes ``(t, x, y, z)`` after voxel and plane reduction."""
        halvings = [hex_down[0], *(d + h for d, h in zip(down, hex_down[1:]))]
        sizes = []
        for axis, size, halving in zip("txyz", (frames, *spatial_size), halvings):
            if size % 2**halving:
                raise ValueError(
                    f"size along {axis}: expected multiple of 2**{halving}, got {size}"
                )
            sizes.append(size // 2**halving)
        return tuple(sizes)

    @property
    def plane_sizes(self) -> list[tuple[int, int]]:
        """Sizes of the six latent planes."""
        return plane_sizes(self.txyz)

    def encode(self, labels: Tensor) -> tuple[list[Tensor], list[Tensor] | None]:
        """Labels ``(B, T, X, Y, Z)`` to plane means and log-variances (None without ``vae``)."""
        planes = self.encoder(labels)
        return self.vae(planes) if self.vae is not None else (planes, None)

    def decode(self, planes: Sequence[Tensor], frames: slice | None = None) -> Tensor:
        """Six planes ``(B, C, a, b)`` to logits ``(B, T, X, Y, Z, K)``."""
        return self.decoder(planes, frames)

    @torch.no_grad()
    def decode_labels(self, planes: Sequence[Tensor], frames_at_once: int = 4) -> Tensor:
        """Six planes to labels ``(B, T, X, Y, Z)`` uint8, a few frames at a time."""
        parts = [
            self.decode(planes, slice(start, start + frames_at_once)).argmax(-1).to(torch.uint8)
            for start in range(0, self.sequence_length, frames_at_once)
        ]
        return torch.cat(parts, dim=1)

    def compute_losses(
        self,
        labels: Tensor,
        logits: Tensor,
        mus: Sequence[Tensor],
        logvars: Sequence[Tensor] | None,
    ) -> dict[str, Tensor]:
        """Weighted loss terms of one batch; the KL term is missing without ``vae``."""
        losses = {
            "loss_ce": self.loss_ce(logits, labels),
            "loss_lovasz": self.loss_lovasz(logits, labels),
        }
        if logvars is not None:
            losses["loss_kl"] = self.kl_weight * hexplane_kl(
                [mu.float() for mu in mus], [logvar.float() for logvar in logvars]
            )
        return losses

    def forward(
        self,
        inputs: dict,
        data_samples: list[OccupancyDataSample] | None = None,
        mode: str = "tensor",
    ):
        """Encode and decode a batch of clips.

        Args:
            inputs: ``voxels`` ``(B, T, X, Y, Z)`` integer labels.
            data_samples: One per clip; ``predict`` fills them.
            mode: ``loss`` gives a dict of losses; ``predict`` the data samples with
                ``pred_occupancy`` ``(T, X, Y, Z)``; ``tensor`` the logits of the decoded means.
        """
        labels = stacked(inputs["voxels"])
        mus, logvars = self.encode(labels)
        if mode == "loss":
            planes = mus
            if logvars is not None:
                planes = [
                    m + torch.randn_like(m) * torch.exp(0.5 * v) for m, v in zip(mus, logvars)
                ]
            return self.compute_losses(labels, self.decode(planes), mus, logvars)
        if mode == "predict":
            return OccupancyDataSample.predicted(self.decode_labels(mus), data_samples)
        if mode == "tensor":
            return self.decode(mus)
        raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")
