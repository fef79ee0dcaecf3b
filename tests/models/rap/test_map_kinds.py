"""Scenes of other systems serve as maps: anchors directly, and baked to plain Gaussians."""

import torch

from mmcity.apis import SceneRenderer
from mmcity.engine.rap.view_synthesis import SynthesisSpec, ViewSynthesizer, build_synthesizer
from mmcity.models.rap import PosePerturber
from mmcity.structures import write_gaussians_ply
from tests.devices import DEVICE
from tests.models.citygsx.test_tools import tiny_model


def test_anchors_and_their_baked_gaussians_give_views(tmp_path):
    model, cameras = tiny_model()
    model.eval()
    options = dict(views_per_image=2, min_coverage=0.0, seed=3)
    perturber = dict(translation=0.05, rotation=2.0)
    direct = ViewSynthesizer(model, cameras, PosePerturber(**perturber), **options).synthesize(0)
    write_gaussians_ply(model.to_gaussians(min_opacity=0.0), tmp_path / "baked.ply")
    spec = SynthesisSpec(
        map=str(tmp_path / "baked.ply"),
        perturber=dict(type="PosePerturber", **perturber),
        Ks=cameras.Ks,
        viewmats=cameras.viewmats,
        widths=cameras.widths,
        heights=cameras.heights,
        options=options,
    )
    baked = build_synthesizer(spec).synthesize(0)
    assert torch.equal(direct.poses, baked.poses)
    assert direct.pictures.shape == baked.pictures.shape == (2 * len(cameras), 3, *size(cameras))
    assert torch.isfinite(direct.pictures).all() and torch.isfinite(baked.pictures).all()
    # Where something stands is the same; colours of anchors depend on the view more finely.
    renderer = SceneRenderer(weights=tmp_path / "baked.ply", device=DEVICE)
    with torch.no_grad():
        alpha = model.render(cameras[:1])["alpha"][0, ..., 0]
    shown = next(renderer.iterate(cameras[:1]))["alpha"]
    assert ((alpha > 0.5) == (shown > 0.5)).float().mean() > 0.9


def size(cameras):
    width, height = cameras.one_size()
    return height, width
