"""Head of GaussTR: queries to Gaussians, their rendering losses and their labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.models.layers.frozen import MissingWeightsError, check_loaded, freeze
from mmcity.models.losses.depth import masked_l1, scale_invariant_log, upsampled_cosine_loss
from mmcity.registry import MODELS
from mmcity.structures.geometry import rotmat_to_quat
from mmcity.utils.checks import check_choice
from mmcity.utils.published_weights import random_weights_allowed
from mmcity.utils.timing import stage
from mmcity_ops import rasterization
from mmcity_ops.reference.covariance import covariances

from .depth_occupancy import occupancy_from_depth, volume_loss
from .gaussian_set import GaussianSet
from .geometry import augmented_intrinsics, inverse, inverse_sigmoid, pixels_to_ego
from .labelling import OCC3D_VOCABULARY, Vocabulary, label_voxels, prompt_probabilities
from .vocabulary_files import load_prototypes, load_vocabulary

#: Factors of the losses as published.
LOSS_WEIGHTS = {"depth": 1.0, "cosine": 5.0, "ce": 1.0, "sky": 1.0}
#: Share of the absolute error in the depth loss.
L1_SHARE = 0.2
#: Depth target of pixels beyond the limit: such rays should stay empty.
_EMPTY_DEPTH = 1e-3


@MODELS.register_module()
class GaussTRHead(nn.Module):
    """Predicts one Gaussian per query; one instance per decoder layer.

    Args:
        opacity_head, feature_head, scale_head, regress_head: Configs of the regressors.
        reduce_dims: Channels R that are rendered.
        image_shape: Height and width of the network's images.
        patch_size: Pixels per cell of the feature targets.
        voxelizer: Config of the voxelizer.
        text_protos: ``(C, P)``, or the path of a file that :func:`load_prototypes` reads; its
            prompts, where it names them, are the vocabulary. Prototypes given here are kept
            when a checkpoint is loaded. None, or the path of a file that is not there, makes
            zeros that a checkpoint or :meth:`set_prototypes` fills. Defaults to None.
        prompts: Number of prompts P of the prototype buffer where it is made of zeros.
            Defaults to 21.
        vocabulary: Path of a YAML file (see :func:`load_vocabulary`), or fields of
            :class:`Vocabulary` to change. Defaults to None.
        segment_head: Config of the auxiliary segmenter on rendered features. Defaults to None.
        unit_pixels: A scale of 1 is what so many pixels of the original image span at the
            Gaussian's depth. Defaults to 7.5.
        depth_limit: Depth map values are cut at this many metres. Defaults to 51.2.
        prompt_denoising: See :class:`Vocabulary`. Defaults to True.
        near_plane, far_plane: Rendering range in metres. Defaults to 0.1 and 100.
        depth_mode: ``accumulated`` (as published) or ``expected`` depth in the depth loss.
        sky: ``depth`` asks far pixels for an empty ray through the depth loss (as published);
            ``opacity`` by a loss on the accumulated opacity. Defaults to ``depth``.
        loss_weights: Factors of ``depth``, ``cosine``, ``ce``, ``sky``.
        sampled_features: A Gaussian's feature is the foundation feature at its pixel plus what
            the feature head adds (nothing at first), as its depth is that of the depth map;
            rare things are named right from the start. Defaults to False (the feature head
            alone, as published).
        volume_loss: Adds ``loss_volume``: one minus the soft IoU of the voxelised Gaussians with
            what the depth maps say about the volume (:func:`occupancy_from_depth`). A dict of
            ``weight``, ``gain`` (a voxel is half occupied at a density of log(2) / gain) and
            ``stride`` (pixels between rays of free space). Defaults to None (as published).
        projection: Config of a frozen projection of targets and features. Defaults to None.
        occupancy: ``density`` (unbounded sum, as published) or ``probability``
            (``1 - exp(-density)``, the limit of ``1 - prod(1 - w)``). Defaults to ``density``.
    """

    def __init__(
        self,
        opacity_head: dict,
        feature_head: dict,
        scale_head: dict,
        regress_head: dict,
        reduce_dims: int,
        image_shape: Sequence[int],
        patch_size: int,
        voxelizer: dict,
        text_protos: Tensor | str | None = None,
        prompts: int = 21,
        vocabulary: str | dict | None = None,
        segment_head: dict | None = None,
        unit_pixels: float = 7.5,
        depth_limit: float = 51.2,
        prompt_denoising: bool = True,
        near_plane: float = 0.1,
        far_plane: float = 100.0,
        depth_mode: str = "accumulated",
        sky: str = "depth",
        loss_weights: dict | None = None,
        sampled_features: bool = False,
        volume_loss: dict | None = None,
        projection: dict | None = None,
        occupancy: str = "density",
    ) -> None:
        super().__init__()
        check_choice("depth_mode", depth_mode, ("accumulated", "expected"))
        check_choice("sky", sky, ("depth", "opacity"))
        check_choice("occupancy", occupancy, ("density", "probability"))
        self.opacity_head = MODELS.build(opacity_head)
        self.feature_head = MODELS.build(feature_head)
        self.scale_head = MODELS.build(scale_head)
        self.regress_head = MODELS.build(regress_head)
        self.segment_head = None if segment_head is None else MODELS.build(segment_head)
        self.projection = None
        if projection is not None:
            self.projection = freeze(MODELS.build(projection))
        self.voxelizer = MODELS.build(voxelizer)
        self.reduce_dims = reduce_dims
        self.image_shape = tuple(image_shape)
        self.patch_size = patch_size
        self.unit_pixels = unit_pixels
        self.sampled_features = sampled_features
        if sampled_features:
            nn.init.zeros_(self.feature_head.linears[-1].weight)
            nn.init.zeros_(self.feature_head.linears[-1].bias)
        self.depth_limit = depth_limit
        self.near_plane, self.far_plane = near_plane, far_plane
        self.depth_mode = depth_mode
        self.sky = sky
        self.occupancy = occupancy
        self.volume_loss = None
        if volume_loss is not None:
            self.volume_loss = {"weight": 1.0, "gain": 4.6, "stride": 4, **volume_loss}
        self.loss_weights = {**LOSS_WEIGHTS, **(loss_weights or {})}
        channels = self.feature_head.linears[-1].out_features
        words = None
        self._prototype_file = ""
        if isinstance(text_protos, (str, Path)):
            if Path(text_protos).is_file():
                text_protos, words = load_prototypes(text_protos)
            else:  # a checkpoint may hold them
                self._prototype_file, text_protos = str(text_protos), None
        self.has_own_prototypes = text_protos is not None
        self._knows_prototypes = self.has_own_prototypes
        if text_protos is None:
            text_protos = torch.zeros(channels, prompts)
        words = words or OCC3D_VOCABULARY
        if isinstance(vocabulary, (str, Path)):
            words = load_vocabulary(vocabulary)
        elif vocabulary:
            words = replace(words, **vocabulary)
        self.register_buffer("text_proto_embeds", text_protos.float())
        self._register_load_state_dict_pre_hook(self._note_prototypes)
        self.vocabulary = replace(words, denoise=words.denoise and prompt_denoising)

    def _note_prototypes(self, state_dict: dict, prefix: str, *_) -> None:
        loaded = state_dict.get(f"{prefix}text_proto_embeds")
        if loaded is not None:
            self._knows_prototypes = self.has_own_prototypes or bool(loaded.any())

    def check_prototypes(self) -> None:
        """Refuse to name anything by text prototypes that nobody has given.

        Raises:
            MissingWeightsError: If they are zeros, by which every voxel would be the first class.
        """
        if not self._knows_prototypes and not random_weights_allowed():
            file = self._prototype_file
            got = f"no file {file}" if file else "zeros"
            raise MissingWeightsError(
                f"model.gauss_head.text_protos: expected text prototypes, got {got}: make them by "
                "`python tools/build_text_protos.py --out FILE` (--help shows how) and name FILE "
                "there, or load a checkpoint that holds them"
            )

    def set_prototypes(self, prototypes: Tensor, vocabulary: Vocabulary) -> None:
        """Change the vocabulary; nothing needs to be trained again.

        Args:
            prototypes: ``(C, P)`` text embeddings.
            vocabulary: Their meaning.
        """
        channels = self.text_proto_embeds.shape[0]
        expected = (channels, len(vocabulary.prompts))
        if tuple(prototypes.shape) != expected:
            raise ValueError(f"prototypes must be {expected}, got {tuple(prototypes.shape)}")
        self.text_proto_embeds = prototypes.to(self.text_proto_embeds)
        self._knows_prototypes = True
        self.vocabulary = vocabulary

    def predict_gaussians(
        self,
        queries: Tensor,
        reference_points: Tensor,
        depth: Tensor,
        cameras: dict[str, Tensor],
        feats: Tensor | None = None,
    ) -> GaussianSet:
        """Gaussians of one layer.

        Args:
            queries: Normalised outputs of the decoder ``(B, N, Q, E)``.
            reference_points: ``(B, N, Q, 2)`` x, y in [0, 1].
            depth: Metric depth maps ``(B, N, H, W)``.
            cameras: ``cam2img``, ``cam2ego``, ``img_aug_mat``, each ``(B, N, 4, 4)``.
            feats: Foundation features ``(B, N, C, h, w)``, for ``sampled_features``.
        """
        height, width = self.image_shape
        delta = self.regress_head(queries)
        uv = (delta[..., :2] + inverse_sigmoid(reference_points)).sigmoid()  # (B, N, Q, 2)
        limited = depth.clamp(max=self.depth_limit).flatten(0, 1)[:, None]
        grid = (2 * uv.flatten(0, 1) - 1)[:, :, None].to(limited)
        sampled = F.grid_sample(limited, grid, mode="bilinear", align_corners=False)
        sampled = sampled[:, 0].unflatten(0, uv.shape[:2])  # (B, N, Q, 1)
        pixels = torch.cat(
            [uv[..., :1] * width, uv[..., 1:] * height, sampled * (1 + delta[..., 2:])], dim=-1
        )
        means = pixels_to_ego(
            pixels, cameras["cam2img"], cameras["cam2ego"], cameras["img_aug_mat"]
        )
        focal = cameras["cam2img"][..., 0, 0][..., None, None]
        unit = (sampled * self.unit_pixels / focal).clamp(min=1e-6)
        scales = self.scale_head(queries) * unit
        rotmats = cameras["cam2ego"][..., None, :3, :3].expand(*scales.shape, 3)
        features = self.feature_head(queries).float()
        if self.sampled_features:
            at_pixels = F.grid_sample(
                feats.flatten(0, 1).float(), grid.float(), padding_mode="border",
                align_corners=False,
            )  # fmt: skip
            features = features + at_pixels[..., 0].mT.unflatten(0, uv.shape[:2])
        return GaussianSet(
            means=means.flatten(1, 2),
            scales=scales.float().flatten(1, 2),
            rotmats=rotmats.float().flatten(1, 2),
            opacities=self.opacity_head(queries).float().flatten(1, 2),
            features=features.flatten(1, 2),
        )

    def render(
        self, gaussians: GaussianSet, colors: Tensor, cameras: dict[str, Tensor], shape: Sequence
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Splat all Gaussians of a sample into its cameras.

        Args:
            gaussians: Predicted set.
            colors: ``(B, M, R)``.
            cameras: As in :meth:`predict_gaussians`.
            shape: Height and width of the images.

        Returns:
            Features ``(B*N, R, H, W)``, depth ``(B*N, H, W)`` and opacity ``(B*N, H, W)``.
        """
        ego_to_cam = inverse(cameras["cam2ego"].float())
        intrinsics = augmented_intrinsics(cameras["cam2img"], cameras["img_aug_mat"]).float()
        mode = "RGB+D" if self.depth_mode == "accumulated" else "RGB+ED"
        image, alpha, _ = rasterization(
            gaussians.means,
            rotmat_to_quat(gaussians.rotmats),
            gaussians.scales,
            gaussians.opacities.squeeze(-1),
            colors.float(),
            ego_to_cam,
            intrinsics,
            width=int(shape[1]),
            height=int(shape[0]),
            near_plane=self.near_plane,
            far_plane=self.far_plane,
            render_mode=mode,
            packed=False,  # so that the device is not asked for the number of visible ones
        )
        image = image.flatten(0, 1).movedim(-1, 1)  # (B*N, R+1, H, W)
        return image[:, :-1], image[:, -1], alpha.flatten(0, 1)[..., 0]

    def rendered_shape(self, cameras: dict[str, Tensor], ori_shape: Sequence[int]) -> tuple:
        """Height and width of the augmented images, from the first camera's augmentation."""
        aug = cameras["img_aug_mat"][0, 0]
        height, width = (ori_shape[i] * aug[1 - i, 1 - i] + aug[1 - i, 3] for i in range(2))
        return tuple(round(size) for size in torch.stack([height, width]).tolist())

    def losses(
        self,
        rendered: Tensor,
        rendered_depth: Tensor,
        alpha: Tensor | None,
        depth: Tensor,
        targets: Tensor,
        sem_seg: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of one layer.

        Args:
            rendered: Reduced features ``(B*N, R, H, W)``.
            rendered_depth: ``(B*N, H, W)``.
            alpha: ``(B*N, H, W)``, needed with ``sky='opacity'``.
            depth: Depth maps ``(B*N, H, W)``.
            targets: Reduced targets ``(B*N, R, h, w)``.
            sem_seg: Labels ``(B*N, H, W)``, 0 is ignored. Defaults to None.
        """
        weights = self.loss_weights
        result = {}
        far = depth >= self.depth_limit
        if self.sky == "depth":
            target = torch.where(far, torch.full_like(depth, _EMPTY_DEPTH), depth)
        else:
            target = torch.where(far, torch.zeros_like(depth), depth)
            result["loss_sky"] = weights["sky"] * (alpha * far).mean()
        mae = masked_l1(rendered_depth, target)
        result["loss_depth"] = weights["depth"] * (
            scale_invariant_log(rendered_depth, target) + L1_SHARE * mae
        )
        result["mae_depth"] = mae.detach()
        result["loss_cosine"] = weights["cosine"] * upsampled_cosine_loss(rendered, targets)
        if self.segment_head is not None and sem_seg is not None:
            logits = self.segment_head(rendered.movedim(1, -1)).movedim(-1, 1)
            result["loss_ce"] = weights["ce"] * F.cross_entropy(
                logits, sem_seg.long(), ignore_index=0
            )
        return result

    def loss(
        self,
        gaussians: GaussianSet,
        cameras: dict[str, Tensor],
        depth: Tensor,
        feats: Tensor,
        basis: Tensor,
        shape: Sequence[int],
        sem_seg: Tensor | None = None,
        volume_labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Render the Gaussians of one layer and compare.

        Args:
            gaussians: Predicted set.
            cameras: As in :meth:`predict_gaussians`.
            depth: ``(B, N, H, W)``.
            feats: Targets ``(B, N, C, h, w)``.
            basis: ``(C, R)`` reduction of the channels.
            shape: Height and width of the images, see :meth:`rendered_shape`.
            sem_seg: ``(B, N, H, W)``. Defaults to None.
            volume_labels: What :meth:`label_volume` gave, with ``volume_loss``.
        """
        self.check_prototypes()
        targets, features = feats.flatten(0, 1), gaussians.features
        if self.projection is not None:
            check_loaded(self.projection, "model.gauss_head.projection")
            targets = self.projection(targets.movedim(1, -1)).movedim(-1, 1)
            features = self.projection(features)
        basis = basis.to(features)
        reduced = torch.einsum("bchw,cr->brhw", targets.to(basis), basis)
        rendered, rendered_depth, alpha = self.render(gaussians, features @ basis, cameras, shape)
        seg = None if sem_seg is None else sem_seg.flatten(0, 1)
        terms = self.losses(rendered, rendered_depth, alpha, depth.flatten(0, 1), reduced, seg)
        if self.volume_loss is not None:
            covars = covariances(gaussians.rotmats, gaussians.scales)
            density, _ = self.voxelizer(gaussians.means, gaussians.opacities, covars)
            gain = self.volume_loss["gain"]
            values = [volume_loss(d[..., 0], t, gain) for d, t in zip(density, volume_labels)]
            terms["loss_volume"] = self.volume_loss["weight"] * torch.stack(values).mean()
        return terms

    def label_volume(self, depth: Tensor, cameras: dict[str, Tensor]) -> Tensor | None:
        """Targets of the volume loss ``(B, X, Y, Z)``; None without that loss.

        Args:
            depth: ``(B, N, H, W)``.
            cameras: As in :meth:`predict_gaussians`.
        """
        if self.volume_loss is None:
            return None
        return occupancy_from_depth(
            depth,
            cameras,
            self.voxelizer.vol_range,
            self.voxelizer.voxel_size,
            self.depth_limit,
            self.volume_loss["stride"],
        )

    @torch.no_grad()
    def predict(
        self,
        gaussians: GaussianSet,
        vol_range: Sequence[float] | None = None,
        voxel_size: float | None = None,
    ) -> dict[str, Tensor]:
        """Label the volume.

        Args:
            gaussians: Predicted set.
            vol_range: Corners of the volume in metres. Defaults to the voxelizer's.
            voxel_size: Metres. Defaults to the voxelizer's.

        Returns:
            ``labels`` int64 ``(B, X, Y, Z)``, ``density`` ``(B, X, Y, Z, 1)`` and
            ``prompts`` ``(B, X, Y, Z, P)``.
        """
        self.check_prototypes()
        probabilities = prompt_probabilities(
            gaussians.features, self.text_proto_embeds, self.vocabulary.temperature
        )
        covars = covariances(gaussians.rotmats, gaussians.scales)
        voxelizer = self.voxelizer
        if vol_range is not None or voxel_size is not None:
            voxelizer = voxelizer.regridded(vol_range, voxel_size)
        with stage("voxelizer"):
            density, prompts = voxelizer(
                gaussians.means, gaussians.opacities, covars, probabilities
            )
        if self.occupancy == "probability":
            density = -torch.expm1(-density)
        with stage("labelling"):
            labels = label_voxels(density, prompts, self.vocabulary)
        return {"labels": labels, "density": density, "prompts": prompts}
