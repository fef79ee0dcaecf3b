"""Numbers that the host reads stay there when a module moves."""

import torch

from mmcity.models.citygsx import OctreeAnchors
from mmcity.registry import MODELS


def test_numbers_of_a_scene_stay_on_the_cpu_and_in_their_dtype():
    model = MODELS.build(dict(type="mmcity.GaussianSplatting"))
    model.iteration.fill_(7)
    model.to("meta").double()
    assert model.splats.means.is_meta and model.views.viewmats.is_meta
    assert int(model.iteration) == 7 and model.iteration.dtype == torch.int64
    assert model.scene_extent == 1.0 and model.views.extent.dtype == torch.float32
    assert {"iteration", "views.extent"} <= set(model.state_dict())


def test_numbers_of_an_octree_stay_on_the_cpu():
    anchors = OctreeAnchors().to("meta")
    assert anchors.positions.is_meta and anchors.origin.is_meta
    assert [anchors.finest_level(None), float(anchors.voxel_size)] == [0, 1.0]
