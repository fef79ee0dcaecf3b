"""GaussTR: occupancy around a car from its cameras, self-supervised."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmcity.models.layers.batches import stacked
from mmcity.models.layers.frozen import check_loaded, freeze
from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS
from mmcity.structures import OccupancyDataSample, to_device
from mmcity.utils.checks import check_choice
from mmcity.utils.timing import stage

from .gaussian_set import GaussianSet
from .pca import FeatureBasis, span_basis

_REFERENCE_INITS = ("random", "seeded", "sobol", "grid")
_CAMERA_KEYS = ("cam2img", "cam2ego", "img_aug_mat")
_INPUT_KEYS = ("imgs", "feats", "depth", "sem_seg", *_CAMERA_KEYS)


@MODELS.register_module()
class GaussTR(BaseModel):
    """Gaussian transformer (arXiv 2412.13193).

    Args:
        num_queries: Queries Q, and Gaussians, per camera.
        embed_dims: Channels E of the queries.
        neck: Config of the feature pyramid.
        decoder: Config of the decoder.
        gauss_head: Config of a head; one is built per decoder layer.
        backbone: Config of a frozen image network that gives ``(B*N, C, h, w)``; None takes
            stored feature maps (``feats``). Defaults to None.
        projection: Config of a channel-wise module on the features. Defaults to None.
        reference_init: Where reference points start: ``random`` anew in every pass (as
            published), ``seeded`` (the same random points always), ``sobol`` or ``grid``.
            Defaults to ``random``.
        test_reference_init: The same in evaluation. Defaults to ``seeded``.
        pca: How the rendered reduction of features is found, see :class:`FeatureBasis`;
            ``prototypes`` is the fixed basis of what the text prototypes span, so that no
            rare class is lost in the reduction. Defaults to ``ema``.
        source_views: Gaussians come from so many leading views of a sample; the others (frames
            before and after, see :class:`AlignAdjacentCameras`) are only rendered into, in
            training. Defaults to None (all).
        data_preprocessor: Config. Defaults to :class:`PinnedDataPreprocessor`.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        num_queries: int,
        embed_dims: int,
        neck: dict,
        decoder: dict,
        gauss_head: dict,
        backbone: dict | None = None,
        projection: dict | None = None,
        reference_init: str = "random",
        test_reference_init: str = "seeded",
        pca: str = "ema",
        source_views: int | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or PinnedDataPreprocessor(), init_cfg)
        for name in (reference_init, test_reference_init):
            check_choice("reference_init", name, _REFERENCE_INITS)
        self.num_queries = num_queries
        self.source_views = source_views
        self.reference_init = reference_init
        self.test_reference_init = test_reference_init
        self.backbone = None
        if backbone is not None:
            self.backbone = freeze(MODELS.build(backbone))
        self.projection = None if projection is None else MODELS.build(projection)
        self.neck = MODELS.build(neck)
        self.decoder = MODELS.build(decoder)
        self.query_embeds = nn.Embedding(num_queries, embed_dims)
        self.gauss_heads = nn.ModuleList(
            MODELS.build(gauss_head) for _ in range(len(self.decoder.layers))
        )
        head = self.gauss_heads[0]
        channels = head.feature_head.linears[-1].out_features
        mode = "fixed" if pca == "prototypes" else pca
        self.feature_basis = FeatureBasis(channels, head.reduce_dims, mode)
        if pca == "prototypes":
            self.feature_basis.set_basis(span_basis(head.text_proto_embeds, head.reduce_dims))
        self._register_load_state_dict_pre_hook(self._fit_state_dict)

    def _fit_state_dict(self, state_dict: dict, prefix: str, *_) -> None:
        """Leave out what follows from the config: voxel centres, prototypes that it names."""
        for key in list(state_dict):
            if ".voxelizer." in key and key.startswith(prefix):
                del state_dict[key]
        for i, head in enumerate(self.gauss_heads):
            if head.has_own_prototypes:
                state_dict[f"{prefix}gauss_heads.{i}.text_proto_embeds"] = head.text_proto_embeds

    def train(self, mode: bool = True) -> "GaussTR":
        """Set training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def reference_points(self, views: int, device: torch.device) -> Tensor:
        """Start of the reference points, ``(views, Q, 2)`` x, y in [0, 1]."""
        kind = self.reference_init if self.training else self.test_reference_init
        if kind == "random":
            return torch.rand(views, self.num_queries, 2, device=device)
        if kind == "grid":
            columns = max(1, round((self.num_queries * 16 / 9) ** 0.5))
            rows = -(-self.num_queries // columns)
            index = torch.arange(self.num_queries)
            points = torch.stack(
                [(index % columns + 0.5) / columns, (index // columns + 0.5) / rows], dim=-1
            )
        elif kind == "sobol":
            points = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(self.num_queries)
        else:
            points = torch.rand(self.num_queries, 2, generator=torch.Generator().manual_seed(0))
        return to_device(points, device).expand(views, -1, -1)

    def extract_features(self, inputs: dict) -> Tensor:
        """Foundation features ``(B, N, C, h, w)``: stored ones, or the backbone's."""
        if self.backbone is None:
            if "feats" not in inputs:
                raise KeyError("inputs: expected 'feats' for a GaussTR without backbone, got none")
            feats = inputs["feats"]
        else:
            check_loaded(self.backbone, "model.backbone")
            images = inputs["imgs"]
            with torch.no_grad(), stage("backbone"):
                feats = self.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if self.projection is not None:
            feats = self.projection(feats.movedim(2, -1)).movedim(-1, 2)
        return feats

    def decode(
        self, feats: Tensor, reference_points: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Queries and reference points of all layers.

        Args:
            feats: ``(B, N, C, h, w)``.
            reference_points: ``(B*N, Q, 2)``. Defaults to :meth:`reference_points`.

        Returns:
            ``(layers, B, N, Q, E)`` and ``(layers, B, N, Q, 2)``.
        """
        batch, views = feats.shape[:2]
        with stage("neck"):
            levels = self.neck(feats.flatten(0, 1))
        shapes = [tuple(level.shape[-2:]) for level in levels]
        value = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        if reference_points is None:
            reference_points = self.reference_points(batch * views, feats.device)
        query = self.query_embeds.weight.expand(batch * views, -1, -1)
        with stage("decoder"):
            outputs, references = self.decoder(
                query,
                value,
                reference_points,
                shapes,
                [head.regress_head for head in self.gauss_heads],
                num_views=views,
            )
        return outputs.unflatten(1, (batch, views)), references.unflatten(1, (batch, views))

    def forward(
        self,
        inputs: dict,
        data_samples: list[OccupancyDataSample] | None = None,
        mode: str = "tensor",
    ):
        """Train or predict.

        Args:
            inputs: ``imgs`` ``(B, N, 3, H, W)`` (with a backbone) or ``feats``
                ``(B, N, C, h, w)``; ``depth`` ``(B, N, H, W)`` metres; ``cam2img``,
                ``cam2ego``, ``img_aug_mat`` ``(B, N, 4, 4)``; ``sem_seg`` ``(B, N, H, W)``
                optional. Lists are stacked.
            data_samples: One per sample; ``predict`` fills ``pred_occupancy``. Their
                metainfo ``ori_shape`` is the size of the original images.
            mode: ``loss``, ``predict`` or ``tensor`` (Gaussians of the last layer).
        """
        inputs = self._gather_inputs(inputs, data_samples)
        cameras = {key: inputs[key] for key in _CAMERA_KEYS}
        depth = inputs["depth"]
        feats = self.extract_features(inputs)
        views = slice(None, self.source_views)
        queries, references = self.decode(feats[:, views])
        if mode == "loss":
            return self._loss(queries, references, feats, inputs, cameras, data_samples)
        with stage("head"):
            gaussians = self.gauss_heads[-1].predict_gaussians(
                queries[-1],
                references[-1],
                depth[:, views],
                {key: value[:, views] for key, value in cameras.items()},
                feats[:, views],
            )
        if mode == "tensor":
            return gaussians
        if mode != "predict":
            raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")
        return self._predict(gaussians, data_samples)

    def _gather_inputs(
        self, inputs: dict, data_samples: Sequence[OccupancyDataSample] | None
    ) -> dict[str, Tensor]:
        """Batched tensors; what the pipeline left on the data samples comes from there.

        mmdet3d packs matrices and maps as metainfo of the samples.
        """
        device = self.query_embeds.weight.device
        gathered = {}
        for key in _INPUT_KEYS:
            value = inputs.get(key)
            if value is None and data_samples and key in data_samples[0]:
                value = [torch.as_tensor(np.asarray(sample.get(key))) for sample in data_samples]
            if value is None:
                continue
            gathered[key] = to_device(stacked(value), device).float()
        missing = [key for key in (*_CAMERA_KEYS, "depth") if key not in gathered]
        if missing:
            raise KeyError(f"inputs: expected {missing}, got none: let the pipeline pack them")
        return gathered

    def _loss(
        self,
        queries: Tensor,
        references: Tensor,
        feats: Tensor,
        inputs: dict,
        cameras: dict[str, Tensor],
        data_samples: Sequence[OccupancyDataSample] | None,
    ) -> dict[str, Tensor]:
        shape = self.gauss_heads[0].rendered_shape(cameras, self._ori_shape(data_samples))
        views = slice(None, self.source_views)
        sources = {key: value[:, views] for key, value in cameras.items()}
        volume_labels = self.gauss_heads[0].label_volume(inputs["depth"][:, views], sources)
        basis = None
        losses = {}
        for i, head in enumerate(self.gauss_heads):
            if basis is None or self.feature_basis.mode == "per_step":
                targets = feats
                if head.projection is not None:
                    targets = head.projection(feats.movedim(2, -1)).movedim(-1, 2)
                flat = targets.detach().movedim(2, -1).flatten(0, -2)
                basis = self.feature_basis.update(flat.float())
            gaussians = head.predict_gaussians(
                queries[i], references[i], inputs["depth"][:, views], sources, feats[:, views]
            )
            terms = head.loss(
                gaussians,
                cameras,
                depth=inputs["depth"],
                feats=feats,
                basis=basis,
                shape=shape,
                sem_seg=inputs.get("sem_seg"),
                volume_labels=volume_labels,
            )
            losses.update({f"{name}/{i}": value for name, value in terms.items()})
        return losses

    @staticmethod
    def _ori_shape(data_samples: Sequence[OccupancyDataSample] | None) -> tuple[int, int]:
        if not data_samples or "ori_shape" not in data_samples[0]:
            raise ValueError(
                "data samples: expected metainfo 'ori_shape' (height, width), got none"
            )
        shapes = {tuple(sample.ori_shape[:2]) for sample in data_samples}
        if len(shapes) > 1:
            raise ValueError(f"images: expected one original size in a batch, got {shapes}")
        return shapes.pop()

    def _predict(
        self, gaussians: GaussianSet, data_samples: list[OccupancyDataSample] | None
    ) -> list[OccupancyDataSample]:
        labels = self.gauss_heads[-1].predict(gaussians)["labels"]
        return OccupancyDataSample.predicted(labels, data_samples)
