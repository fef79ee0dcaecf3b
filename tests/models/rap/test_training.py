"""Adversarial training with view synthesis through the Runner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcity.datasets.io import read_colmap_model
from mmcity.datasets.io.colmap_model import find_colmap_model, write_colmap_model
from mmcity.engine.rap import ViewSynthesisHook
from mmcity.engine.rap.view_synthesis import (
    SynthesisError,
    SynthesisSpec,
    build_synthesizer,
    make_executor,
)
from mmcity.models.layers import frame_in_state
from mmcity.structures import Gaussians, SceneFrame, write_gaussians_ply
from mmcity.utils.setup_env import register_all_modules
from tests.devices import need_devices

SIZE = (48, 64)
REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def scene_map(toytown_citygsx, tmp_path_factory):
    """The sparse points of the scene as round Gaussians: a map that needs no training."""
    points = read_colmap_model(find_colmap_model(toytown_citygsx)).points3D
    path = tmp_path_factory.mktemp("map") / "scene.ply"
    write_gaussians_ply(point_gaussians(points.xyz, points.rgb), path)
    return path


def point_gaussians(xyz, rgb):
    count = len(xyz)
    return Gaussians(
        means=torch.from_numpy(xyz).float(),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.full((count, 3), 1.5),
        opacities=torch.full((count,), 0.9),
        sh0=((torch.from_numpy(rgb.astype(np.float32)) / 255 - 0.5) / 0.28209)[:, None],
    )


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
                    freeze_batch_norm=False,
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
                view_synthesis=dict(
                    type="ViewSynthesisHook",
                    map=str(scene_map),
                    refresh_every=1,
                    min_coverage=0.05,
                    perturber=dict(type="PosePerturber", translation=1.0, rotation=3.0),
                    **hook,
                ),
            ),
            randomness=dict(seed=0),
            log_level="WARNING",
        )
    )


def weights(runner):
    return {k: v.clone() for k, v in runner.model.state_dict().items()}


BUDGETS = {
    "uniform": {},
    # A thread plans and renders ahead: what is on its way has to be the same after a restart.
    "value": dict(
        budget=dict(type="ValueBudget", monitor=None, floor=0.0, min_observability=0.05),
        executor="thread",
        max_attempts=3,
    ),
}


def in_utm(source, scene):
    """The same capture in UTM coordinates: its model and its place."""
    scene.mkdir()
    for file in source.iterdir():
        if file.name != "sparse":
            (scene / file.name).symlink_to(file)
    model = read_colmap_model(find_colmap_model(source))
    place = np.array([452310.25, 5411872.75, 213.5])
    for image in model.images.values():
        image.tvec = image.tvec - image.viewmat[:3, :3] @ place
    model.points3D.xyz = model.points3D.xyz + place
    write_colmap_model(model, scene / "sparse" / "0")
    return model, place


def test_images_and_network_take_the_frame_of_the_map(toytown_citygsx, tmp_path):
    """The capture is in UTM coordinates; the map was centred otherwise than it would be now."""
    scene = tmp_path / "utm"
    model, place = in_utm(toytown_citygsx, scene)
    frame = SceneFrame(origin=place + 7)
    gaussians = point_gaussians(frame.world_to_scene(model.points3D.xyz), model.points3D.rgb)
    gaussians.frame = frame
    write_gaussians_ply(gaussians, tmp_path / "map.ply")

    runner = Runner.from_cfg(config(scene, tmp_path / "map.ply", tmp_path / "run", 1))
    runner.train()

    network = runner.model
    assert network.placement.frame == frame == runner.train_dataloader.dataset.frame
    assert runner.val_dataloader.dataset.frame == frame
    assert network.views.rendered.float().std() > 0.05  # the map is in sight
    state = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=True)["state_dict"]
    assert frame_in_state(state) == frame
    # Tests bring the images to what the network knows.
    cfg = config(scene, tmp_path / "map.ply", tmp_path / "test", 1)
    cfg.update(load_from=str(tmp_path / "run" / "epoch_1.pth"))
    cfg.update(test_dataloader=cfg.val_dataloader, test_evaluator=cfg.val_evaluator)
    cfg.update(test_cfg=dict(type="TestLoop"))
    tester = Runner.from_cfg(cfg)
    tester.test()
    assert tester.test_dataloader.dataset.frame == frame


def test_a_network_that_does_not_know_where_its_images_lie_is_refused(toytown_citygsx, tmp_path):
    """Without a hook that tells it the frame, its poses would be off by the offset."""
    in_utm(toytown_citygsx, tmp_path / "utm")
    cfg = config(tmp_path / "utm", "none", tmp_path / "run", 1)
    del cfg.default_hooks["view_synthesis"]
    cfg.model.discriminator = None
    del cfg.optim_wrapper["discriminator"]
    with pytest.raises(ValueError, match="frame of the network.*PoseFrameHook"):
        Runner.from_cfg(cfg).train()
    cfg.default_hooks.pose_frame = dict(type="PoseFrameHook")
    cfg.experiment_name = "with_hook"
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.model.placement.frame == runner.val_dataloader.dataset.frame != SceneFrame()


@pytest.mark.parametrize("kind", BUDGETS)
def test_training_resumes_exactly(toytown_citygsx, scene_map, tmp_path, kind):
    hook = BUDGETS[kind]
    epochs = 2 if kind == "uniform" else 3
    whole = Runner.from_cfg(config(toytown_citygsx, scene_map, tmp_path / "whole", epochs, **hook))
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

    cut = config(toytown_citygsx, scene_map, tmp_path / "cut", epochs - 1, **hook)
    Runner.from_cfg(cut).train()
    again = config(toytown_citygsx, scene_map, tmp_path / "cut", epochs, **hook)
    again.resume, again.load_from = True, str(tmp_path / "cut" / f"epoch_{epochs - 1}.pth")
    resumed = Runner.from_cfg(again)
    resumed.train()
    if kind == "value":
        plans = [next(h for h in r.hooks if isinstance(h, ViewSynthesisHook))._taken
                 for r in (whole, resumed)]  # fmt: skip
        assert plans[0] == plans[1] and plans[0].number == 2
        # The set that was learnt from spreads its views unlike the first.
        assert plans[0].sources != list(range(count))
    assert torch.equal(resumed.model.views.perturbed_poses, views.perturbed_poses)
    torch.testing.assert_close(weights(resumed), after, rtol=0, atol=0)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_worker_renders_the_same_views(toytown_citygsx, scene_map, tmp_path, executor):
    poses = []
    for kind in ("inline", executor):
        cfg = config(toytown_citygsx, scene_map, tmp_path / kind, executor=kind, views_per_image=2)
        runner = Runner.from_cfg(cfg)
        runner.train()
        poses.append(runner.model.views.perturbed_poses)
        assert len(runner.model.views.perturbed) == 2 * len(runner.train_dataloader.dataset)
    assert torch.equal(*poses)


def spec(scene_map, count=2, **options) -> SynthesisSpec:
    return SynthesisSpec(
        map=str(scene_map),
        perturber=dict(type="PosePerturber", translation=0.5, rotation=1),
        Ks=torch.tensor([[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]]).expand(count, 3, 3),
        viewmats=torch.eye(4).expand(count, 4, 4),
        widths=torch.full((count,), 64),
        heights=torch.full((count,), 48),
        options=options,
    )


def test_error_of_the_worker_reaches_the_trainer(tmp_path):
    executor = make_executor("process", spec(tmp_path / "no_such_map.ply"))
    executor.submit(0)
    with pytest.raises(SynthesisError, match="no_such_map.ply"):
        executor.result()
    executor.close()


def test_killed_worker_is_an_error_and_no_hang(scene_map):
    executor = make_executor("process", spec(scene_map, max_attempts=1, min_coverage=0.0))
    executor.submit("rendered")
    assert executor.result().shape == (2, 3, 48, 64)
    os.kill(executor.pid, signal.SIGKILL)
    executor.submit(0)
    with pytest.raises(SynthesisError, match="exit code -9"):
        executor.result()
    executor.close()


def test_unrenderable_neighbours_fall_back_to_the_pose_itself(scene_map):
    looks_away = spec(scene_map, max_attempts=2, min_coverage=1.1, views_per_image=2)
    views = build_synthesizer(looks_away).synthesize(0)
    assert views.fallbacks == 4 and views.tries == 2
    identity = torch.eye(4, dtype=torch.float64)[:3].flatten()
    assert torch.allclose(views.poses, identity.expand(4, 12))


def test_quality_filter_keeps_the_best_try(scene_map):
    class Score:
        scores = iter([90.0, 70.0, 80.0, 60.0, 20.0])

        def __call__(self, images):
            return np.array([next(self.scores) for _ in images])

    drawn = []
    synthesizer = build_synthesizer(spec(scene_map, max_attempts=3, batch_views=1))
    synthesizer.quality = Score()
    perturb = synthesizer.perturber
    synthesizer.perturber = lambda pose, rng: drawn.append(perturb(pose, rng)) or drawn[-1]
    synthesizer._render = lambda rows, poses: (
        torch.zeros(len(rows), 3, 48, 64, device="cpu"),
        np.ones(1, bool),
        np.full(1, np.nan),
    )
    views = synthesizer.synthesize(0)
    # First image: three tries, none good, the second was best; second image: good at once ... 20.
    assert views.tries == 2.5
    np.testing.assert_allclose(views.poses[0].reshape(3, 4), drawn[1])
    np.testing.assert_allclose(views.poses[1].reshape(3, 4), drawn[4])


def test_views_keep_away_from_validation_poses(scene_map):
    away = dict(poses=np.eye(4)[None, :3], distance=0.3, degrees=0.2)
    options = dict(keep_away=away, views_per_image=8, min_coverage=0.0)
    poses = build_synthesizer(spec(scene_map, **options)).synthesize(0).poses.reshape(-1, 3, 4)
    assert poses[:, :, 3].norm(dim=-1).min() >= 0.3
    impossible = dict(options, keep_away=dict(away, distance=2.0))
    with pytest.raises(ValueError, match="keep_away"):
        build_synthesizer(spec(scene_map, **impossible)).synthesize(0)


def test_failing_thread_ends_training_with_its_error(toytown_citygsx, scene_map, tmp_path):
    runner = Runner.from_cfg(
        config(toytown_citygsx, scene_map, tmp_path / "broken", executor="thread", epochs=3)
    )
    (hook,) = (h for h in runner.hooks if isinstance(h, ViewSynthesisHook))
    start = hook.before_train

    def start_and_break(runner):
        start(runner)
        synthesizer = hook.executor.synthesizer
        synthesize = synthesizer.synthesize

        def fail_later(plan):
            if plan.number:
                raise RuntimeError("the renderer is out of memory")
            return synthesize(plan)

        synthesizer.synthesize = fail_later

    hook.before_train = start_and_break
    with pytest.raises(SynthesisError, match="out of memory"):
        runner.train()
    hook.close()


def test_normalised_poses_start_in_the_middle_of_the_cameras(toytown_citygsx, scene_map, tmp_path):
    cfg = config(toytown_citygsx, scene_map, tmp_path / "frame", epochs=1)
    cfg.model.normalize_poses = True
    cfg.model.data_preprocessor.statistics = "image"
    batch_of = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match="PoseFrameHook"):
        batch_of.model.eval().test_step(next(iter(batch_of.val_dataloader)))
    cfg.default_hooks.pose_frame = dict(type="PoseFrameHook")
    cfg.experiment_name = "frame_again"
    runner = Runner.from_cfg(cfg)
    runner.train()
    centers = runner.train_dataloader.dataset.cameras.centers
    assert torch.allclose(runner.model.pose_center, centers.mean(0), rtol=1e-4)
    flat = torch.eye(4)[None, :3].flatten(1)
    assert torch.allclose(runner.model.to_world(flat)[0, 3::4], centers.mean(0), rtol=1e-4)


def test_half_precision_and_compiled_parts_train_alike(toytown_citygsx, scene_map, tmp_path):
    """The same steps in bfloat16 and through torch.compile end near those in float32."""
    ends = {}
    for kind in ("plain", "amp", "compiled"):
        cfg = config(toytown_citygsx, scene_map, tmp_path / kind, epochs=1)
        if kind == "amp":
            for part in ("network", "discriminator"):
                cfg.optim_wrapper[part].update(type="MixedPrecisionOptimWrapper", dtype="bfloat16")
        if kind == "compiled":
            cfg.model.compile_networks = dict(backend="eager")
        runner = Runner.from_cfg(cfg)
        before = weights(runner)
        runner.train()
        after = weights(runner)
        assert list(after) == list(before)
        ends[kind] = torch.cat([(after[k] - before[k]).flatten() for k in sorted(after)]).float()
    torch.testing.assert_close(ends["compiled"], ends["plain"], rtol=1e-3, atol=1e-4)
    # Adam's first steps have the size of the rate whatever the gradient: compare directions.
    cosine = torch.nn.functional.cosine_similarity(ends["amp"], ends["plain"], dim=0)
    assert cosine > 0.7


def test_another_focal_length_is_refused(toytown_citygsx, scene_map, tmp_path):
    runner = Runner.from_cfg(config(toytown_citygsx, scene_map, tmp_path / "focal"))
    model, batch = runner.model.eval(), next(iter(runner.val_dataloader))
    model.focal_ratio.fill_(0.123)
    with pytest.raises(ValueError, match="learns one camera"):
        model.test_step(batch)
    model.check_intrinsics = False
    assert len(model.test_step(batch)) == len(batch["data_samples"])


def test_photographs_of_several_cameras_train_together(toytown_citygsx, scene_map, tmp_path):
    cfg = config(toytown_citygsx, scene_map, tmp_path / "mixed", epochs=1)
    cfg.model.data_preprocessor.normalize_focal = True
    cfg.default_hooks.pose_frame = dict(type="PoseFrameHook")
    runner = Runner.from_cfg(cfg)
    Ks = runner.train_dataloader.dataset.cameras.Ks
    Ks[0, [0, 1], [0, 1]] *= 1.5  # one photograph is taken for one with a longer lens
    runner.train()
    model, focal = runner.model, float(Ks[1, 0, 0]) / 96 * SIZE[1]
    assert float(model.data_preprocessor.focal) == pytest.approx(focal)
    (hook,) = (h for h in runner.hooks if isinstance(h, ViewSynthesisHook))
    # Renders are made as that one camera would see.
    assert torch.allclose(hook.spec(runner).Ks[:, 0, 0], torch.tensor(focal))


@pytest.mark.slow
@pytest.mark.ci_slow
def test_two_processes_train_alike_and_resume_exactly(toytown_citygsx, scene_map, tmp_path):
    need_devices(2)
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    worker = ["--module", "tests.models.rap.processes_worker"]
    done = subprocess.run(
        [str(part) for part in (*starter, *worker, toytown_citygsx, scene_map, tmp_path)],
        cwd=REPO, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.testing.assert_close(ranks[0]["whole"], ranks[1]["whole"], rtol=0, atol=0)
    for rank in ranks:
        torch.testing.assert_close(rank["resumed"], rank["whole"], rtol=0, atol=0)
        assert rank["gradients"] == [[1.5], [2.0], None]
    # Every process knows what only the other one saw.
    assert ranks[0]["whole"]["errors"].isfinite().all()


@pytest.mark.parametrize("name", ["rap_colmap", "rap_map_appearance", "rap_map_colmap_cpu"])
def test_configs_choose_a_wrapper_that_trains_them(name):
    cfg = Config.fromfile(REPO / "configs" / "rap" / f"{name}.py")
    assert cfg.model_wrapper_cfg.type in ("mmcity.ReplicatedModel", "mmcity.ReplicatedScene")


def test_discriminator_takes_the_size_of_the_photographs(toytown_citygsx, scene_map, tmp_path):
    cfg = config(toytown_citygsx, scene_map, tmp_path / "size", epochs=1)
    cfg.model.data_preprocessor.size = None
    runner = Runner.from_cfg(cfg)
    assert not runner.model.discriminator.is_sized
    runner.train()
    score = runner.model.discriminator.adv_layer[1]
    assert score.in_features == 8 * 5 * 6  # of pictures of 96x72: 12x9 features, halved
    optimizer = runner.optim_wrapper["discriminator"].optimizer
    assert optimizer.state[score.weight]["exp_avg"].any()


def test_frozen_statistics_that_nothing_loaded_are_refused(toytown_citygsx, scene_map, tmp_path):
    cfg = config(toytown_citygsx, scene_map, tmp_path / "frozen", epochs=1)
    cfg.model.network.freeze_batch_norm = True
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match="network.freeze_batch_norm: expected statistics"):
        runner.train()
    weights = runner.model.state_dict()
    weights["network.backbone.stem_norm.running_mean"] += 0.1
    torch.save({"state_dict": weights}, tmp_path / "measured.pth")
    cfg.load_from, cfg.experiment_name = str(tmp_path / "measured.pth"), "measured"
    Runner.from_cfg(cfg).train()
