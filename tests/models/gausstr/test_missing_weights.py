"""GaussTR without text prototypes, or on a backbone that was never loaded."""

import pytest
import torch
from mmengine.registry import init_default_scope

from mmcity.models.layers.frozen import MissingWeightsError
from mmcity.registry import MODELS
from tests.models.gausstr.test_gausstr import inputs, model_config, samples

BACKBONE = {
    "type": "DinoVisionTransformer", "img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1,
    "num_heads": 2, "out_type": "map", "frozen": True,
}  # fmt: skip


def build(**options):
    init_default_scope("mmcity")
    return MODELS.build(model_config(**options))


@pytest.mark.parametrize("mode", ["loss", "predict"])
def test_prototypes_of_zeros_are_refused(mode):
    model = build().train(mode == "loss")
    with pytest.raises(MissingWeightsError, match="text_protos: .*got zeros.*build_text_protos"):
        model(inputs(), samples(), mode=mode)


def test_missing_file_of_prototypes_is_named_where_they_are_needed():
    model = build(head={"text_protos": "ckpts/words.pth"}).eval()
    with pytest.raises(MissingWeightsError, match="got no file ckpts/words.pth"):
        model(inputs(), samples(), mode="predict")
    state = model.state_dict()
    for i in range(2):
        state[f"gauss_heads.{i}.text_proto_embeds"] = torch.randn(12, 21)
    model.load_state_dict(state)
    model(inputs(), samples(), mode="predict")


def test_checkpoint_of_a_training_without_prototypes_is_refused():
    model = build().eval()
    model.load_state_dict(model.state_dict())
    with pytest.raises(MissingWeightsError, match="text_protos"):
        model(inputs(), samples(), mode="predict")


def test_backbone_that_was_never_loaded_is_refused():
    model = build(backbone=BACKBONE, head={"text_protos": torch.randn(12, 21)}).eval()
    pictures = {key: value for key, value in inputs().items() if key != "feats"}
    pictures["imgs"] = torch.randn(1, 2, 3, 32, 64)
    with pytest.raises(MissingWeightsError, match=r"model\.backbone: .*init_cfg"):
        model(pictures, samples(), mode="predict")
    model.load_state_dict(model.state_dict())
    model(pictures, samples(), mode="predict")
