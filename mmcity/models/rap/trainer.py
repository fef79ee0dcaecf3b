"""Training of the pose network against a discriminator, and its prediction."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from mmcity.models.layers import HostNumbers, Placement
from mmcity.registry import MODELS
from mmcity.structures import Cameras, LocalizationDataSample, to_device
from mmcity.structures.geometry import se3_from_rt, se3_inverse

from .discriminator import lsgan_discriminator_loss
from .synthetic_views import SyntheticViews


def viewmats_to_poses(viewmats: Tensor) -> Tensor:
    """``(..., 12)`` camera-to-world rows of world-to-camera matrices ``(..., 4, 4)``."""
    return se3_inverse(viewmats)[..., :3, :].flatten(-2)


def poses_to_viewmats(poses: Tensor) -> Tensor:
    """World-to-camera matrices ``(..., 4, 4)`` of poses ``(..., 12)``."""
    top = poses.unflatten(-1, (3, 4))
    return se3_inverse(se3_from_rt(top[..., :3], top[..., 3]))


@MODELS.register_module()
class RAPTrainer(HostNumbers, BaseModel):
    """Pose regression from one image, trained on photographs, their renders and new views.

    A step follows Li et al. (2024): the discriminator learns to tell features of photographs
    from those of renders; then the pose network learns poses of both and of perturbed
    renders, pulls both features together and deceives the discriminator. The optimisers are
    an ``OptimWrapperDict`` with ``network`` and ``discriminator`` (without discriminator:
    ``network`` alone, or a plain wrapper).

    Renders come from ``views``, which a hook fills; samples find theirs by their meta value
    ``index``. Without renders, training uses photographs alone.

    Args:
        network (dict): Config of the pose network. Defaults to ``RAPNet``.
        discriminator (dict, optional): Config of the discriminator, None for none.
        objective (dict, optional): Config of the losses. Defaults to ``JointObjective``.
        use_rendered (bool): Train with the renders at the poses of the photographs. Defaults
            to True.
        use_perturbed (bool): Train with renders at perturbed poses. Defaults to True.
        normalize_poses (bool): Let the network give positions about the middle of the training
            cameras in units of their spread, which :class:`PoseFrameHook` measures, instead of
            world units; a network that starts from random weights learns faster so. Defaults
            to False.
        channels_last (bool): Keep pictures and convolutions in that memory format, which is
            faster on CPUs and in 16 bit. Defaults to False.
        compile_networks (bool | dict): Compile backbone, pose branches and discriminator;
            options of ``torch.compile`` may be given. Defaults to False.
        check_intrinsics (bool): Refuse images whose focal length over width differs by more
            than 1 %, since regression learns it with the poses; not where the preprocessor has
            ``normalize_focal``. Defaults to True.
        data_preprocessor (dict, optional): Defaults to ``LocalizationPreprocessor``.
        init_cfg (dict, optional): See mmengine.
    """

    on_host = ("focal_ratio",)

    def __init__(
        self,
        network: dict | None = None,
        discriminator: dict | None = None,
        objective: dict | None = None,
        use_rendered: bool = True,
        use_perturbed: bool = True,
        normalize_poses: bool = False,
        channels_last: bool = False,
        compile_networks: bool | dict = False,
        check_intrinsics: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            MODELS.build(data_preprocessor or dict(type="LocalizationPreprocessor")), init_cfg
        )
        if discriminator is not None and not use_rendered:
            raise ValueError("use_rendered: expected True for a discriminator, got False")
        self.network = MODELS.build(network or dict(type="RAPNet"))
        self.discriminator = None if discriminator is None else MODELS.build(discriminator)
        self.objective = MODELS.build(objective or dict(type="JointObjective"))
        self.use_rendered, self.use_perturbed = use_rendered, use_perturbed
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.normalize_poses, self.check_intrinsics = normalize_poses, check_intrinsics
        self.views = SyntheticViews()
        self.placement = Placement()
        self._is_checked = False  # by the first step, after weights were loaded
        if self.discriminator is not None and self.data_preprocessor.size is not None:
            self._size_discriminator(self.data_preprocessor.size)
        if compile_networks:
            options = compile_networks if isinstance(compile_networks, dict) else {}
            net = self.network
            parts = [net.backbone, net.translation, net.rotation, *net.adaptation]
            for part in parts if self.discriminator is None else [*parts, self.discriminator]:
                part.compile(**options)
        #: Focal length over width of the first training image, which all others must share.
        self.register_buffer("focal_ratio", torch.zeros(()))
        if normalize_poses:
            self.on_host = ("focal_ratio", "pose_scale")
            #: Middle of the training cameras and their spread, world units.
            self.register_buffer("pose_center", torch.zeros(3))
            self.register_buffer("pose_scale", torch.zeros(()))

    @torch.no_grad()
    def _size_discriminator(self, size: tuple[int, int]) -> None:
        """Let the discriminator know the size of its features, so that it has all weights."""
        self.eval()
        pictures = torch.zeros(1, 3, *size, device=self.data_preprocessor.mean.device)
        self.discriminator(self.network.forward_with_features(pictures)[1])
        self.train()

    def fit_size(self, cameras: Cameras) -> None:
        """Take the size of the discriminator's features from the cameras of training.

        Nothing is done where the preprocessor's ``size`` has told it.

        Raises:
            ValueError: If the cameras differ in size.
        """
        if self.discriminator is not None and not self.discriminator.is_sized:
            width, height = cameras.one_size()
            self._size_discriminator((height, width))

    # ---- mmengine's contract

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[LocalizationDataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Poses, losses or samples with ``pred_camera``.

        Args:
            inputs (Tensor): ``(B, 3, h, w)``, normalised.
            data_samples (Sequence, optional): Samples with ``camera``.
            mode (str): ``tensor`` gives poses ``(B, 12)``, ``loss`` the losses of photographs
                alone, ``predict`` the samples.
        """
        if mode == "tensor":
            return self.to_world(self.network(inputs))
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "loss":
            poses = self.to_world(self.network(inputs))
            return self.objective(poses, self.gt_poses(data_samples, poses.device))
        raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: Sequence[LocalizationDataSample]
    ) -> list[LocalizationDataSample]:
        """Fill ``pred_camera`` with the regressed pose, at the sample's own intrinsics."""
        self._check_focal(data_samples)
        self._check_frame(data_samples)
        viewmats = poses_to_viewmats(self.to_world(self.network(inputs))).cpu()
        for sample, viewmat in zip(data_samples, viewmats):
            camera = sample.camera
            sample.pred_camera = Cameras(
                camera.Ks.cpu(), viewmat[None], camera.widths.cpu(), camera.heights.cpu(),
                validate=False,
            )  # fmt: skip
        return list(data_samples)

    def fit_frame(self, centers: Tensor) -> None:
        """Take the frame of ``normalize_poses`` from training camera centres ``(N, 3)``."""
        if not self.normalize_poses or float(self.pose_scale) > 0:
            return
        middle = centers.double().mean(0)
        spread = (centers.double() - middle).norm(dim=-1).square().mean().sqrt()
        self.pose_center.copy_(middle)
        self.pose_scale.copy_(spread.clamp_min(1e-6))

    def to_world(self, poses: Tensor) -> Tensor:
        """World poses ``(B, 12)`` of what the network gives."""
        if not self.normalize_poses:
            return poses
        if float(self.pose_scale) == 0:
            raise ValueError("normalize_poses: expected a frame, got none: add the PoseFrameHook")
        top = poses.unflatten(-1, (3, 4))
        shift = top[..., 3:] * self.pose_scale + self.pose_center[:, None]
        return torch.cat([top[..., :3], shift], -1).flatten(-2)

    @staticmethod
    def gt_poses(data_samples: Sequence[LocalizationDataSample], device=None) -> Tensor:
        """True poses ``(B, 12)``."""
        viewmats = torch.cat([sample.camera.viewmats for sample in data_samples])
        return to_device(viewmats_to_poses(viewmats.double()).float(), device or viewmats.device)

    def _check_focal(self, data_samples: Sequence[LocalizationDataSample]) -> None:
        if not self.check_intrinsics or self.data_preprocessor.normalize_focal:
            return
        for sample in data_samples:
            camera = sample.camera
            ratio = float(camera.Ks[0, 0, 0] / camera.widths[0])
            if float(self.focal_ratio) == 0:
                self.focal_ratio.fill_(ratio)
            if abs(ratio / float(self.focal_ratio) - 1) > 0.01:
                raise ValueError(
                    f"{sample.get('img_name', 'an image')}: focal length over width {ratio:.4f}, "
                    f"expected {float(self.focal_ratio):.4f} as in training: pose regression "
                    "learns one camera: set normalize_focal=True of the data "
                    "preprocessor, localise by refinement, or set check_intrinsics=False"
                )

    def _check_frame(self, data_samples: Sequence[LocalizationDataSample]) -> None:
        """Refuse images that were moved to their own origin, which the network does not know."""
        for sample in data_samples:
            frame = sample.metainfo.get("frame")
            if frame is not None and not frame.is_near(self.placement.frame):
                raise ValueError(
                    f"{sample.get('img_name', 'an image')}: expected poses in the frame of the "
                    f"network, whose origin is {self.placement.frame.matrix[:3, 3].tolist()}, got "
                    f"{frame.matrix[:3, 3].tolist()}: add the PoseFrameHook to the config"
                )

    # ---- one step of two optimisers

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Update the discriminator, then the pose network."""
        if not self._is_checked:
            self.network.check_statistics()
            self._is_checked = True
        data = self.data_preprocessor(data, True)
        images, samples = data["inputs"], data["data_samples"]
        self._check_focal(samples)
        self._check_frame(samples)
        wrapper = optim_wrapper
        if isinstance(optim_wrapper, (OptimWrapperDict, dict)):
            wrapper = optim_wrapper["network"]
        rows = [sample.metainfo.get("index") for sample in samples]
        gt_poses = self.gt_poses(samples, images.device)
        rendered = self._views("rendered", rows, images) if self.use_rendered else None
        perturbed = self._views("perturbed", rows, images) if self.use_perturbed else None
        log: dict[str, Tensor] = {}
        with wrapper.optim_context(self):
            if rendered is None:
                poses, features = self.to_world(self.network(self._laid_out(images))), None
            else:
                both = self._laid_out(torch.cat([images, rendered]))
                poses, stacked = self.network.forward_with_features(both)
                poses = self.to_world(poses)
                features = stacked.chunk(2, dim=1)
        if features is not None and self.discriminator is not None:
            log["loss_discriminator"] = self._train_discriminator(features, optim_wrapper)
        with wrapper.optim_context(self):
            terms = {}
            if features is not None:
                terms.update(real=features[0], rendered=features[1])
                if self.discriminator is not None:
                    terms["scores"] = self.discriminator(features[1])
            if perturbed is not None:
                targets = to_device(self.views.poses(rows), gt_poses.device)
                estimates = self.to_world(self.network(self._laid_out(perturbed)))
                self.views.note_errors(rows, estimates, targets)
                terms["perturbed"] = (estimates, targets)
            losses = self.objective(poses, gt_poses, **terms)
            total = sum(losses.values())
        wrapper.update_params(total)
        log.update(losses, loss=total)
        return {name: value.detach() for name, value in log.items()}

    def _laid_out(self, pictures: Tensor) -> Tensor:
        if not self.channels_last:
            return pictures
        return pictures.contiguous(memory_format=torch.channels_last)

    def _train_discriminator(self, features: tuple, optim_wrapper: OptimWrapperDict) -> Tensor:
        wrapper = optim_wrapper["discriminator"]
        real, rendered = (part.detach() for part in features)
        # What the generator's loss left of the last step is not meant for this one.
        wrapper.zero_grad()
        with wrapper.optim_context(self):
            loss = lsgan_discriminator_loss(self.discriminator(real), self.discriminator(rendered))
        wrapper.update_params(loss)
        return loss

    def _views(self, kind: str, rows: list, like: Tensor) -> Tensor | None:
        if not self.views.has(kind):
            return None
        if any(row is None for row in rows):
            raise ValueError("samples: expected meta value 'index' of their renders, got none")
        pixels = to_device(self.views.get(kind, rows), like.device).float()
        return self.data_preprocessor.normalize(pixels).to(like.dtype)
