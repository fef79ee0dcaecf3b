"""Adversarial training with view synthesis through the Runner."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcity.datasets.io import read_colmap_model
from mmcity.datasets.io.colmap_model import find_colmap_model
from mmcity.engine.hooks import ViewSynthesisHook
from mmcity.structures import Gaussians, write_gaussians_ply
from mmcity.utils.setup_env import register_all_modules

SIZE = (48, 64)


@pytest.fixture(scope="module")
def scene_map(toytown_citygsx, tmp_path_factory):
    """The sparse points of the scene as round Gaussians: a map that needs no training."""
    points = read_colmap_model(find_colmap_model(toytown_citygsx)).points3D
    count = len(points)
    path = tmp_path_factory.mktemp("map") / "scene.ply"
    gaussians = Gaussians(
        means=torch.from_numpy(points.xyz).float(),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.full((count, 3), 1.5),
        opacities=torch.full((count,), 0.9),
        sh0=((torch.from_numpy(points.rgb.astype(np.float32)) / 255 - 0.5) / 0.28209)[:, None],
    )
    write_gaussians_ply(gaussians, path)
    return path


def config(scene, scene_map, work_dir, epochs=2, **hook):
    register_all_modules()
    dataset = dict(type="ColmapDataset", data_root=str(scene), require_points=False)
    loader = dict(
        num_workers=0,
        collate_fn=dict(type="pseudo_collate"),
        sampler=dict(type="DefaultSampler", shuffle=True),
    )
    adam = dict(optimizer=dict(type="Adam", lr=1e-3))
    return Config(
        dict(
            default_scope="mmcity",
            work_dir=str(work_dir),
            experiment_name=work_dir.name,
            model=dict(
                type="RAPTrainer",
                network=dict(
                    type="RAPNet",
                    backbone=dict(width=0.25),
                    hidden_dim=16,
                    num_heads=2,
                    feedforward_dim=16,
                    num_encoder_layers=1,
                    guarded_rotation=True,
                ),
                discriminator=dict(type="FeatureDiscriminator"),
                objective=dict(
                    type="JointObjective",
                    pose=dict(type="GeometricPoseLoss", train_weights=True),
                ),
                data_preprocessor=dict(type="LocalizationPreprocessor", size=SIZE),
            ),
            train_dataloader=dict(
                batch_size=2, drop_last=True, dataset=dict(split="train", **dataset), **loader
            ),
            val_dataloader=dict(batch_size=2, dataset=dict(split="test", **dataset), **loader),
            val_evaluator=dict(type="PoseMetric"),
            optim_wrapper=dict(
                constructor="MultiOptimWrapperConstructor",
                network=dict(modules=["network", "objective"], **adam),
                discriminator=adam,
            ),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=1),
            val_cfg=dict(type="ValLoop"),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1),
                checkpoint=dict(type="CityCheckpointHook", interval=1, by_epoch=True),
            ),
            custom_hooks=[
                dict(
                    type="ViewSynthesisHook",
                    map=str(scene_map),
                    refresh_every=1,
                    min_coverage=0.05,
                    perturber=dict(type="PosePerturber", translation=1.0, rotation=3.0),
                    **hook,
                )
            ],
            randomness=dict(seed=0),
            log_level="WARNING",
        )
    )


def weights(runner):
    return {k: v.clone() for k, v in runner.model.state_dict().items()}


def test_training_resumes_exactly(toytown_citygsx, scene_map, tmp_path):
    whole = Runner.from_cfg(config(toytown_citygsx, scene_map, tmp_path / "whole"))
    first = weights(whole)
    whole.train()
    after = weights(whole)
    for part in ("network.", "discriminator.", "objective.pose.s_x"):
        assert any(not torch.equal(first[k], v) for k, v in after.items() if k.startswith(part))
    views = whole.model.views
    count = len(whole.train_dataloader.dataset)
    assert views.rendered.shape == views.perturbed.shape == (count, 3, *SIZE)
    assert views.rendered.float().std() > 0.02  # the map is in the picture
    assert float(whole.model.focal_ratio) > 0

    cut = config(toytown_citygsx, scene_map, tmp_path / "cut", epochs=1)
    Runner.from_cfg(cut).train()
    again = config(toytown_citygsx, scene_map, tmp_path / "cut")
    again.resume, again.load_from = True, str(tmp_path / "cut" / "epoch_1.pth")
    resumed = Runner.from_cfg(again)
    resumed.train()
    assert torch.equal(resumed.model.views.perturbed_poses, views.perturbed_poses)
    torch.testing.assert_close(weights(resumed), after, rtol=0, atol=0)


def test_worker_renders_the_same_views(toytown_citygsx, scene_map, tmp_path):
    poses = []
    for executor in ("inline", "thread"):
        cfg = config(toytown_citygsx, scene_map, tmp_path / executor, executor=executor)
        runner = Runner.from_cfg(cfg)
        runner.train()
        poses.append(runner.model.views.perturbed_poses)
    assert torch.equal(*poses)


def test_failing_worker_ends_training_with_its_error(toytown_citygsx, scene_map, tmp_path):
    runner = Runner.from_cfg(
        config(toytown_citygsx, scene_map, tmp_path / "broken", executor="thread")
    )
    (hook,) = (h for h in runner.hooks if isinstance(h, ViewSynthesisHook))
    synthesize, calls = hook.synthesize, []

    def fail_later():
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the renderer is out of memory")
        return synthesize()

    hook.synthesize = fail_later
    with pytest.raises(RuntimeError, match="out of memory"):
        runner.train()
    hook.close()


def test_quality_filter_keeps_the_best_try(scene_map):
    class Score:
        scores = iter([90.0, 70.0, 80.0, 60.0, 20.0])

        def __call__(self, images):
            return np.array([next(self.scores)])

    from mmcity.structures import Cameras

    hook = ViewSynthesisHook(
        str(scene_map), dict(type="PosePerturber", translation=0.5, rotation=1), max_attempts=3
    )
    hook.quality = Score()
    drawn = []
    perturb = hook.perturber
    hook.perturber = lambda pose, rng: drawn.append(perturb(pose, rng)) or drawn[-1]
    K = torch.tensor([[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]])
    hook.cameras = Cameras(K, torch.eye(4).expand(2, 4, 4), 64, 48)
    hook._render = lambda camera: (torch.zeros(3, 48, 64), 1.0)
    _, poses, tries = hook.synthesize()
    # First image: three tries, none good, the second was best; second image: good at once ... 20.
    assert tries == 2.5
    np.testing.assert_allclose(poses[0].reshape(3, 4), drawn[1])
    np.testing.assert_allclose(poses[1].reshape(3, 4), drawn[4])


def test_another_focal_length_is_refused(toytown_citygsx, scene_map, tmp_path):
    runner = Runner.from_cfg(config(toytown_citygsx, scene_map, tmp_path / "focal"))
    model, batch = runner.model.eval(), next(iter(runner.val_dataloader))
    model.focal_ratio.fill_(0.123)
    with pytest.raises(ValueError, match="learns one camera"):
        model.test_step(batch)
