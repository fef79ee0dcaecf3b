"""One hook drives every strategy through the scene that it edits."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel

import mmcity
from mmcity.engine import hooks
from mmcity.engine.distributed import ReplicatedScene
from mmcity.models.layers import SceneModel, Strategy
from mmcity.registry import HOOKS, STRATEGIES
from mmcity.utils.setup_env import register_all_modules

register_all_modules()


class Row(nn.Module):
    """A table of ``count`` rows."""

    def __init__(self, count):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(count))

    def __len__(self):
        return len(self.values)


class RowScene(SceneModel):
    """A scene of numbers; a view is a factor that they are multiplied with."""

    element = "Row"
    summary = "some rows"

    def __init__(self, count=3):
        super().__init__()
        self.rows = Row(count)

    @property
    def table(self):
        return self.rows

    def view_losses(self, rows, inputs, data_samples):
        (row,) = rows
        means2d = self.rows.values * inputs[row]
        self.keep_view(means2d, number=row)
        return {"loss": means2d.sum()}

    def render_sample(self, sample, photograph):
        raise NotImplementedError

    def grow(self, strategy, optimizer, iteration, batch=1, shards=None):
        return strategy.step(self.rows, optimizer, iteration, self.take_views(), batch)


class ScenesOfViews(RowScene):
    counts_views = True


@STRATEGIES.register_module(force=True)
class NotingStrategy(Strategy):
    """Notes what it is called with, and looks at views from iteration 2 on."""

    absgrad = True

    def __init__(self, memory=0):
        super().__init__()
        self.memory, self.calls = torch.tensor(memory), []

    def keeps_statistics(self, iteration):
        return iteration >= 2

    def step(self, table, optimizer, iteration, views, batch):
        gradients = [float(view["means2d"].grad[0]) for view in views]
        self.calls.append((iteration, batch, [view["number"] for view in views], gradients))
        return {"grown": 1}

    def state_dict(self):
        return {"memory": self.memory}

    def load_state_dict(self, state):
        self.memory = state["memory"]


def make_runner(scene, batch_size):
    parameters = [p for p in scene.parameters()]
    return SimpleNamespace(
        model=scene,
        iter=0,
        _resume=True,
        _train_loop=object(),
        train_dataloader=SimpleNamespace(batch_size=batch_size),
        optim_wrapper=SimpleNamespace(optimizer=torch.optim.Adam(parameters, lr=1.0)),
        logger=logging.getLogger("test_growth_hook"),
        message_hub=SimpleNamespace(scalars={}, update_scalar=lambda *_: None),
    )


def train(hook, runner, steps, inputs):
    """Steps of a training, without those of the optimiser."""
    scene, iterations = runner.model, []
    hook.before_run(runner)
    for runner.iter in range(steps):
        hook.before_train_iter(runner, runner.iter)
        iterations.append(int(scene.iteration))
        sum(scene.loss(inputs, [None] * len(inputs)).values()).backward()
        hook.after_train_iter(runner, runner.iter)
    return iterations


@pytest.mark.parametrize(
    ("kind", "iterations", "numbers", "lr"),
    [(RowScene, [0, 1], [1, 2], 1.0), (ScenesOfViews, [1, 3], [1, 3], 2**0.5)],
    ids=["steps", "views"],
)
def test_scenes_count_steps_or_views_and_hand_over_the_kept_ones(kind, iterations, numbers, lr):
    hook, scene = hooks.GrowthHook(dict(type="NotingStrategy")), kind()
    runner = make_runner(scene, batch_size=2)
    assert train(hook, runner, 2, [3.0, 5.0]) == iterations
    # The loss is a mean over two views; a view that is not asked for is not kept.
    kept = [[], [0, 1]]
    assert [call[:3] for call in hook.strategy.calls] == [
        (number, 2, views) for number, views in zip(numbers, kept)
    ]
    assert hook.strategy.calls[1][3] == [0.5, 0.5]
    assert scene.absgrad and scene.keeps_statistics
    assert runner.optim_wrapper.optimizer.param_groups[0]["lr"] == pytest.approx(lr)


def test_views_of_a_step_without_growth_are_forgotten():
    scene = RowScene()
    scene.keeps_statistics = True
    for _ in range(2):
        scene.loss([1.0], [None])
    assert len(scene.take_views()) == 1 and scene.take_views() == []


def test_memory_of_the_strategy_travels_in_the_checkpoint():
    checkpoint = {}
    hooks.GrowthHook(dict(type="NotingStrategy", memory=7)).before_save_checkpoint(None, checkpoint)
    resumed = hooks.GrowthHook(dict(type="NotingStrategy"))
    resumed.after_load_checkpoint(SimpleNamespace(_resume=True), checkpoint)
    assert int(resumed.strategy.memory) == 7
    # A strategy without memory needs no entry; one with memory misses it.
    anchors = hooks.GrowthHook(dict(type="AnchorGrowthStrategy"))
    anchors.after_load_checkpoint(SimpleNamespace(_resume=True), {})
    with pytest.raises(ValueError, match="expected"):
        gaussians = hooks.GrowthHook(dict(type="DefaultStrategy"))
        gaussians.after_load_checkpoint(SimpleNamespace(_resume=True), {})


def test_an_empty_scene_ends_the_training():
    hook, runner = hooks.GrowthHook(None), make_runner(RowScene(0), batch_size=1)
    with pytest.raises(RuntimeError, match="iteration 1: expected a Row, got none"):
        train(hook, runner, 1, [1.0])


def test_a_wrapper_in_which_scenes_cannot_grow_is_refused():
    hook = hooks.GrowthHook(dict(type="NotingStrategy"))
    hook.before_run(make_runner(ReplicatedScene(RowScene()), batch_size=1))
    with pytest.raises(TypeError, match="model_wrapper_cfg: .*DataParallel.*ReplicatedScene"):
        hook.before_run(make_runner(DataParallel(RowScene()), batch_size=1))


def test_the_former_names_are_the_same_hook_with_their_arguments():
    from mmcity.engine.hooks.anchor_growth_hook import AnchorGrowthHook
    from mmcity.engine.hooks.densification_hook import DensificationHook

    assert AnchorGrowthHook is DensificationHook is hooks.GrowthHook
    options = dict(strategy=None, log_interval=10)
    HOOKS.build(dict(type="DensificationHook", means_group="splats.means", **options))
    HOOKS.build(dict(type="AnchorGrowthHook", batch_lr_rule="linear", **options))


def test_the_engine_leaves_private_fields_of_models_alone():
    writes = re.compile(r"\b(?:model|module|scene)\._\w+(?:\[.*\])? *[-+*/]?=[^=]")
    folder = Path(mmcity.__file__).parent / "engine"
    assert [p.name for p in folder.rglob("*.py") if writes.search(p.read_text())] == []
