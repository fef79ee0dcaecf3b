"""Makes the renders that a pose network trains on."""

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor

from mmcity.engine.scene_loading import load_scene
from mmcity.registry import HOOKS, TASK_UTILS
from mmcity.structures import Cameras
from mmcity.structures.geometry import se3_from_rt, se3_inverse

__all__ = ["ViewSynthesisHook"]

EXECUTORS = ("inline", "thread")


@HOOKS.register_module()
class ViewSynthesisHook(Hook):
    """Random view synthesis from a Gaussian map.

    Before training, every training pose is rendered once. Then, every ``refresh_every``
    epochs and on the first, one perturbed pose per training image is rendered; the new set
    replaces the last. With ``executor='thread'`` the next set is rendered while training goes
    on and is taken at the next refresh. Sets and the state of the random numbers travel in
    checkpoints.

    Args:
        map (str): ``.ply`` file or checkpoint of the scene.
        perturber (dict): Config of a ``PosePerturber``. Its bounds default to those of the
            training centres.
        map_config (str, optional): Config of a map that is a checkpoint.
        antialiased (bool): For a PLY: rendering mode it was trained with. Defaults to False.
        refresh_every (int): Epochs. Defaults to 20.
        rendered (bool): Make the renders at the poses of the photographs. Defaults to True.
        quality (dict, optional): Config of a score of images, lower is better, such as
            ``dict(type='BRISQUE')``.
        quality_threshold (float): New poses are drawn until the score is below. Defaults to
            50.
        max_attempts (int): Draws per image; the best one is taken then. Defaults to 100.
        min_coverage (float): Share of opaque pixels below which a pose counts as not
            renderable and another one is drawn. Defaults to 0.5.
        gain (tuple[float, float]): Range of a random factor on the colours of each perturbed
            render, as another exposure. Defaults to (1.0, 1.0).
        executor (str): ``inline`` or ``thread``. Defaults to ``inline``.
        device (str, optional): Where to render. Defaults to the model's.
        seed (int): Defaults to 7.
    """

    priority = "HIGH"

    def __init__(
        self,
        map: str,
        perturber: dict,
        map_config: str | None = None,
        antialiased: bool = False,
        refresh_every: int = 20,
        rendered: bool = True,
        quality: dict | None = None,
        quality_threshold: float = 50.0,
        max_attempts: int = 100,
        min_coverage: float = 0.5,
        gain: tuple[float, float] = (1.0, 1.0),
        executor: str = "inline",
        device: str | None = None,
        seed: int = 7,
    ) -> None:
        if executor not in EXECUTORS:
            raise ValueError(f"executor: expected one of {EXECUTORS}, got {executor!r}")
        if refresh_every < 1 or max_attempts < 1:
            raise ValueError("refresh_every and max_attempts: expected at least 1")
        self.map, self.map_config, self.antialiased = map, map_config, antialiased
        self.perturber = TASK_UTILS.build(perturber)
        self.quality = None if quality is None else TASK_UTILS.build(quality)
        self.quality_threshold, self.max_attempts = quality_threshold, max_attempts
        self.refresh_every, self.with_rendered = refresh_every, rendered
        self.min_coverage, self.gain = min_coverage, gain
        self.device = device
        self.rng = np.random.RandomState(seed)
        self._pool = ThreadPoolExecutor(1) if executor == "thread" else None
        self._next: Future | None = None
        self._rng_before_next: tuple | None = None
        self.scene = None
        #: Images of the last set for which no perturbed pose could be rendered.
        self.fallbacks = 0

    # ---- hook points

    def before_train(self, runner) -> None:
        """Load the map and render the training poses."""
        model = _unwrap(runner.model)
        self.scene = load_scene(self.map, self.map_config, self.antialiased)
        self.scene.to(self.device or next(model.parameters()).device)
        size = model.data_preprocessor.size
        cameras = runner.train_dataloader.dataset.cameras
        if size is not None:
            cameras = cameras.resize(size[1], size[0])
        self.cameras = cameras
        if self.perturber.bounds is None:
            self.perturber.fit_bounds(cameras.centers.double().numpy())
        if self.with_rendered and not model.views.has("rendered"):
            model.views.set_rendered(torch.stack([self._render(c)[0] for c in cameras]))
            runner.logger.info(f"rendered {len(cameras)} training views")

    def before_train_epoch(self, runner) -> None:
        """Take a new set where one is due."""
        views = _unwrap(runner.model).views
        if runner.epoch % self.refresh_every and views.has("perturbed"):
            return
        if self._next is None:
            pictures, poses, tries = self.synthesize()
        else:
            # Re-raises what went wrong in the worker.
            pictures, poses, tries = self._next.result()
        if self.fallbacks:
            runner.logger.warning(
                f"{self.fallbacks} of {len(pictures)} poses have no renderable neighbour within "
                f"{self.max_attempts} tries; they are rendered unperturbed"
            )
        views.set_perturbed(pictures, poses)
        if self._pool is not None:
            self._rng_before_next = copy.deepcopy(self.rng.get_state())
            self._next = self._pool.submit(self.synthesize)
        runner.logger.info(f"synthesised {len(pictures)} views, {tries:.2f} tries each")

    def after_train(self, runner) -> None:
        """End the worker."""
        self.close()

    def after_run(self, runner) -> None:
        """End the worker also when training was cut short."""
        self.close()

    def close(self) -> None:
        """End the worker; waits for the set it is rendering."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool, self._next = None, None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the sets and the random state into the checkpoint."""
        # A set that is on its way is rendered again after resuming, from the same numbers.
        state = self.rng.get_state() if self._next is None else self._rng_before_next
        checkpoint["view_synthesis"] = {
            "views": _unwrap(runner.model).views.state_dict(),
            "rng_keys": torch.from_numpy(state[1].astype(np.int64)),
            "rng_rest": [int(state[2]), int(state[3]), float(state[4])],
        }

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take them back when resuming."""
        if not runner._resume:
            return
        if "view_synthesis" not in checkpoint:
            raise ValueError("cannot resume: the checkpoint holds no synthesised views")
        state = checkpoint["view_synthesis"]
        _unwrap(runner.model).views.load_state_dict(state["views"])
        position, has_gauss, gauss = state["rng_rest"]
        keys = state["rng_keys"].numpy().astype(np.uint32)
        self.rng.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))

    # ---- synthesis

    def synthesize(self) -> tuple[Tensor, Tensor, float]:
        """One render at a perturbed pose per training image.

        Returns:
            tuple: Pictures ``(N, 3, h, w)``, poses ``(N, 12)`` and the mean number of draws.
        """
        pictures, poses, tries = [], [], 0
        self.fallbacks = 0
        for camera in self.cameras:
            best, attempts = None, 0
            source = camera.cam_to_world[0, :3].double().numpy()
            while attempts < self.max_attempts:
                attempts += 1
                pose = self.perturber(source, self.rng)
                picture, coverage = self._render(self._at(camera, pose))
                if coverage < self.min_coverage:
                    continue
                score = 0.0
                if self.quality is not None:
                    score = float(self.quality(picture[None].float())[0])
                if best is None or score < best[0]:
                    best = (score, picture, pose)
                if self.quality is None or score < self.quality_threshold:
                    break
            tries += attempts
            if best is None:  # nothing to see around here: the pose itself
                self.fallbacks += 1
                best = (0.0, self._render(camera)[0], source)
            pictures.append(best[1] * float(self.rng.uniform(*self.gain)))
            poses.append(torch.from_numpy(best[2]).flatten())
        return torch.stack(pictures), torch.stack(poses), tries / len(pictures)

    @staticmethod
    def _at(camera: Cameras, pose: np.ndarray) -> Cameras:
        top = torch.from_numpy(pose)
        viewmat = se3_inverse(se3_from_rt(top[:, :3], top[:, 3])).to(camera.viewmats)
        return Cameras(camera.Ks, viewmat, camera.widths, camera.heights, validate=False)

    @torch.no_grad()
    def _render(self, camera: Cameras) -> tuple[Tensor, float]:
        """Picture ``(3, h, w)``, 16 bit, on the CPU and the share of opaque pixels."""
        device: Any = next(self.scene.parameters()).device
        out = self.scene.render(camera.to(device), with_geometry=False)
        picture = out["rgb"][0].permute(2, 0, 1).to("cpu", torch.float16)
        return picture, float((out["alpha"] > 0.5).float().mean())


def _unwrap(model):
    return model.module if is_model_wrapper(model) else model
