"""Makes the renders that a pose network trains on."""

from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.runner.loops import BaseLoop
from torch import Tensor

from mmcity.engine.distributed import unwrap
from mmcity.engine.hooks.scene_hook import FrameHook
from mmcity.engine.rap.pose_frame_hook import settle_frame
from mmcity.engine.rap.view_synthesis import EXECUTORS, SetPlan, SynthesisSpec, make_executor
from mmcity.engine.scene_loading import frame_of_weights
from mmcity.registry import HOOKS, TASK_UTILS
from mmcity.utils.checks import check_choice


@HOOKS.register_module()
class ViewSynthesisHook(FrameHook):
    """Random view synthesis from a Gaussian map.

    Before training, every training pose is rendered once. Then, every ``refresh_every``
    epochs and on the first, perturbed poses of the training images are rendered; the new set
    replaces the last. With ``executor='thread'`` or ``'process'`` the next set is rendered
    while training goes on and is taken at the next refresh. Sets and their number travel in
    checkpoints; a set depends on its number and the seed alone, so that training resumes
    exactly.

    Args:
        map (str): ``.ply`` file or checkpoint of the scene.
        perturber (dict): Config of a ``PosePerturber``. Its bounds default to those of the
            training centres.
        map_config (str, optional): Config of a map that is a checkpoint.
        antialiased (bool, optional): For a file of Gaussians: rendering mode it was trained with.
            Defaults to None: what the file, or ``map_config``, says.
        refresh_every (int): Epochs. Defaults to 20.
        rendered (bool): Make the renders at the poses of the photographs. Defaults to True.
        views_per_image (int): Perturbed renders per training image, on average. Defaults to 1.
        budget (dict, optional): Config of what decides how many of them each training image
            gets. Defaults to ``UniformBudget``; ``ValueBudget`` spends them where the network is
            weak and the map is observable.
        quality (dict, optional): Config of a score of images, lower is better, such as
            ``dict(type='BRISQUE')``.
        quality_threshold (float): New poses are drawn until the score is below. Defaults to
            50.
        max_attempts (int): Draws per image; the best one is taken then. Defaults to 100.
        min_coverage (float): Share of opaque pixels below which a pose counts as not
            renderable and another one is drawn. Defaults to 0.5.
        gain (tuple[float, float]): Range of a random factor on the colours of each perturbed
            render, as another exposure. Defaults to (1.0, 1.0).
        blend (tuple[float, float]): Range of the weight of the appearance of the source
            photograph, for maps with appearance. Defaults to (0.0, 2.0).
        keep_away (tuple[float, float], optional): Scene units and degrees: draw only poses
            that are both farther and differently turned than this from the nearest validation
            pose, for ablations. Defaults to None.
        batch_views (int): Pictures rendered at once. Defaults to 8.
        executor (str): ``inline``, ``thread`` or ``process``. Defaults to ``inline``.
        device (str, optional): Where to render. Defaults to the model's.
        seed (int): Defaults to 7.
    """

    priority = "HIGH"

    def __init__(
        self,
        map: str,
        perturber: dict,
        map_config: str | None = None,
        antialiased: bool | None = None,
        refresh_every: int = 20,
        rendered: bool = True,
        views_per_image: int = 1,
        budget: dict | None = None,
        quality: dict | None = None,
        quality_threshold: float = 50.0,
        max_attempts: int = 100,
        min_coverage: float = 0.5,
        gain: tuple[float, float] = (1.0, 1.0),
        blend: tuple[float, float] = (0.0, 2.0),
        keep_away: tuple[float, float] | None = None,
        batch_views: int = 8,
        executor: str = "inline",
        device: str | None = None,
        seed: int = 7,
    ) -> None:
        check_choice("executor", executor, EXECUTORS)
        if min(refresh_every, max_attempts, views_per_image) < 1:
            raise ValueError("refresh_every, max_attempts, views_per_image: expected at least 1")
        self.map, self.map_config, self.antialiased = map, map_config, antialiased
        self.perturber = dict(perturber)
        self.refresh_every, self.with_rendered = refresh_every, rendered
        self.keep_away, self.max_attempts = keep_away, max_attempts
        self.views_per_image, self.seed = views_per_image, seed
        self.budget = TASK_UTILS.build(dict(budget or dict(type="UniformBudget")))
        self.options = dict(
            self.budget.synthesizer_options,
            quality=None if quality is None else dict(quality),
            quality_threshold=quality_threshold,
            max_attempts=max_attempts,
            min_coverage=min_coverage,
            gain=tuple(gain),
            blend=tuple(blend),
            views_per_image=views_per_image,
            batch_views=batch_views,
            seed=seed,
        )
        self.executor_kind, self.device = executor, device
        self.executor: Any = None
        #: Sets taken so far, which is the number of the next one.
        self.sets_taken = 0
        #: Plan of the set in use, and of the one that is on its way.
        self._taken: SetPlan | None = None
        self._pending: SetPlan | None = None
        self._budget_state: dict | None = None

    # ---- hook points

    def before_run(self, runner) -> None:
        """Let a discriminator of renders know their size before weights are made or read.

        Also gives the images in the frame of the map.
        """
        if isinstance(runner._train_loop, BaseLoop):
            frame = frame_of_weights(self.map)
            loaders = [
                runner.train_dataloader,
                *([runner.val_dataloader] if runner.val_loop else []),
            ]
            for loader in loaders:
                loader.dataset.express_in(frame)
            unwrap(runner.model).fit_size(runner.train_dataloader.dataset.cameras)

    def before_train(self, runner) -> None:
        """Start the renderer and render the training poses."""
        model = unwrap(runner.model)
        settle_frame(runner)
        self._start_budget(runner)
        self.executor = make_executor(self.executor_kind, self.spec(runner))
        model.views.views_per_image = self.views_per_image
        if self.with_rendered and not model.views.has("rendered"):
            self.executor.submit("rendered")
            pictures: Tensor = self.executor.result()
            model.views.set_rendered(pictures)
            runner.logger.info(f"rendered {len(pictures)} training views")
        if self._pending is not None:  # it was on its way when the checkpoint was written
            self.executor.submit(self._pending)

    def before_train_epoch(self, runner) -> None:
        """Take a new set where one is due."""
        super().before_train_epoch(runner)
        views = unwrap(runner.model).views
        if runner.epoch % self.refresh_every and views.has("perturbed"):
            return
        if self._taken is not None and views.errors is not None:
            self.budget.learn_errors(self._taken, views.errors)
        plan = self._pending
        if plan is None:
            plan = self.budget.plan(self.sets_taken)
            self.executor.submit(plan)
        new = self.executor.result()
        self.budget.learn_observability(plan, new.observability)
        if new.fallbacks:
            runner.logger.warning(
                f"{new.fallbacks} of {len(new.pictures)} poses have no renderable neighbour within "
                f"{self.max_attempts} tries; they are rendered unperturbed"
            )
        views.set_perturbed(new.pictures, new.poses)
        self.sets_taken += 1
        self._taken, self._pending = plan, None
        if self.executor.is_ahead:
            self._pending = self.budget.plan(self.sets_taken)
            self.executor.submit(self._pending)
        message = f"synthesised {len(new.pictures)} views, {new.tries:.2f} tries each"
        (runner.logger.info if self.sets_taken <= 1 else runner.logger.debug)(message)

    def after_train_epoch(self, runner) -> None:
        """Let every process know the errors at first sight, of which each has seen a part."""
        views = unwrap(runner.model).views
        if views.errors is None:
            return
        is_known = ~views.errors.isnan()
        packed = torch.stack([views.errors.where(is_known, 0.0), is_known.float()])
        all_reduce(packed)
        views.errors = packed[0] / packed[1]  # 0 / 0 is NaN: nobody has seen it

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Let the selection split judge the synthesised views."""
        if self.budget.monitor is None or not metrics:
            return
        if self.budget.monitor not in metrics:
            raise KeyError(
                f"budget.monitor: expected a metric of the validation, {sorted(metrics)}, got "
                f"{self.budget.monitor!r}"
            )
        message = self.budget.judge(float(metrics[self.budget.monitor]))
        if message:
            runner.logger.info(message)

    def after_train(self, runner) -> None:
        """End the worker."""
        self.close()

    def after_run(self, runner) -> None:
        """End the worker also when training was cut short."""
        self.close()

    def close(self) -> None:
        """End the worker."""
        if self.executor is not None:
            self.executor.close()
            self.executor = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the sets and their number into the checkpoint."""
        # A set that is on its way is rendered again after resuming, from the same plan.
        checkpoint["view_synthesis"] = {
            "views": unwrap(runner.model).views.state_dict(),
            "sets_taken": self.sets_taken,
            "plans": [None if p is None else list(p) for p in (self._taken, self._pending)],
            "budget": self.budget.state_dict(),
        }

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take them back when resuming."""
        if not runner._resume:
            return
        if "view_synthesis" not in checkpoint:
            raise ValueError("checkpoint: expected synthesised views to resume, got none")
        state = checkpoint["view_synthesis"]
        unwrap(runner.model).views.load_state_dict(state["views"])
        self.sets_taken = int(state["sets_taken"])
        plans = [None if p is None else SetPlan(*p) for p in state.get("plans", (None, None))]
        self._taken, self._pending = plans
        self._budget_state = state.get("budget") or None

    def _start_budget(self, runner) -> None:
        self.budget.start(len(runner.train_dataloader.dataset), self.views_per_image, self.seed)
        if self._budget_state is not None:
            self.budget.load_state_dict(self._budget_state)
        if self.budget.monitor is None:
            return
        todo = "set selection_every of the data sets, or budget.monitor=None"
        if runner.val_loop is None:
            raise ValueError(f"budget.monitor: expected a validation, got none: {todo}")
        if getattr(runner.val_dataloader.dataset, "split", None) == "test":
            raise ValueError(
                "budget.monitor: expected a validation on other images, got one on the queries, "
                f"which must not steer training: {todo}"
            )

    # ---- what the renderer needs

    def spec(self, runner) -> SynthesisSpec:
        """The job of the renderer as plain values."""
        model = unwrap(runner.model)
        dataset = runner.train_dataloader.dataset
        cameras = model.data_preprocessor.view_cameras(dataset.cameras)
        perturber = dict(self.perturber)
        if perturber.get("bounds") is None:
            fitted = TASK_UTILS.build(perturber)
            fitted.fit_bounds(cameras.centers.double().numpy())
            perturber["bounds"] = fitted.bounds
        options = dict(self.options)
        if self.keep_away is not None:
            held_out = runner.val_dataloader.dataset.cameras.cam_to_world[:, :3].double().numpy()
            distance, degrees = self.keep_away
            options["keep_away"] = dict(poses=held_out, distance=distance, degrees=degrees)
        references, reference_Ks = [], None
        if self.map_config is not None and self._follows_photographs():
            # Colours of such a map follow the photograph at each source pose.
            pictures = [np.array(dataset.load(row)["img"]) for row in range(len(dataset))]
            references = [torch.from_numpy(p).permute(2, 0, 1) for p in pictures]
            reference_Ks = dataset.cameras.Ks
        return SynthesisSpec(
            map=str(self.map),
            map_config=self.map_config,
            antialiased=self.antialiased,
            perturber=perturber,
            Ks=cameras.Ks,
            viewmats=cameras.viewmats,
            widths=cameras.widths,
            heights=cameras.heights,
            references=references,
            reference_Ks=reference_Ks,
            options=options,
            device=str(self.device or next(model.parameters()).device),
        )

    def _follows_photographs(self) -> bool:
        from mmcity.engine.launch import load_config
        from mmcity.registry import MODELS

        config = self.map_config
        config = load_config(config) if isinstance(config, str) else config
        kind = MODELS.get(config.get("model", config)["type"])
        return kind is not None and hasattr(kind, "set_appearance")
