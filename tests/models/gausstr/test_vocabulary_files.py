"""Vocabularies and prototypes from files, and how a model takes them."""

import numpy as np
import pytest
import torch

from mmcity.apis.occupancy import text_prototypes
from mmcity.apis.occupancy.text_prototypes import embed_prompts, stored_encoder
from mmcity.models.gausstr import OCC3D_VOCABULARY, load_prototypes, load_vocabulary
from mmcity.models.gausstr.pca import span_basis
from mmcity.registry import MODELS
from tests.cli.conftest import call_tool
from tests.conftest import REPO

from .test_gausstr import inputs, model_config, samples

PUBLISHED = REPO / "configs/gausstr/vocabularies/occ3d.yaml"


def test_published_vocabulary_is_the_default():
    read = load_vocabulary(PUBLISHED)
    assert tuple(read.prompts) == OCC3D_VOCABULARY.prompts
    assert tuple(read.groups) == OCC3D_VOCABULARY.groups
    assert tuple(read.labels) == OCC3D_VOCABULARY.labels
    assert read.density_threshold == OCC3D_VOCABULARY.density_threshold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: 3", "expected a list"),
        ("classes: [{label: 1}]", "expected a class as"),
        ("classes: [{label: 1, prompts: [a]}]\ntempo: 2", "expected keys of"),
        ("classes: [", "expected YAML"),
        ("classes: [{label: 0, prompts: car}]", "list of prompts, got 'car'"),
        ("classes: [{label: 0, prompts: [car, no]}]", "in quotes"),
        ("classes: [{label: 1.5, prompts: [car]}]", "whole number"),
        ("classes: [{label: true, prompts: [car]}]", "whole number"),
    ],
)
def test_broken_vocabularies_are_named(tmp_path, text, message):
    path = tmp_path / "words.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_vocabulary(path)
    assert "words.yaml" in str(caught.value)


def test_tool_embeds_prompts_for_a_model(tmp_path):
    rng = np.random.default_rng(0)
    vocabulary = load_vocabulary(PUBLISHED)
    vectors = {prompt: rng.standard_normal(12).astype(np.float32) for prompt in vocabulary.prompts}
    np.savez(tmp_path / "vectors.npz", **vectors)
    out = tmp_path / "protos.pth"
    call_tool(
        "tools/build_text_protos.py", "--prompts", PUBLISHED, "--encoder", "npy", "--weights",
        tmp_path / "vectors.npz", "--normalize", "l2", "--out", out,
    )  # fmt: skip
    embeds, words = load_prototypes(out)
    first = vectors["barrier"] / np.linalg.norm(vectors["barrier"])
    np.testing.assert_allclose(embeds[:, 0], first, atol=1e-6)
    torch.manual_seed(0)
    config = model_config(head={"text_protos": str(out)})
    model = MODELS.build(config).eval()
    assert tuple(model.gauss_heads[-1].vocabulary.prompts) == OCC3D_VOCABULARY.prompts
    # A checkpoint of another vocabulary loads: the prototypes of the config stay.
    other = model.state_dict()
    for i in range(2):
        other[f"gauss_heads.{i}.text_proto_embeds"] = torch.zeros(12, 3)
    model.load_state_dict(other)
    torch.testing.assert_close(model.gauss_heads[-1].text_proto_embeds, embeds)
    model(inputs(), samples(), mode="predict")


def test_talk2dino_asks_for_the_weights_of_clip(tmp_path):
    words = ("--weights", tmp_path / "w.pth", "--out", tmp_path / "protos.pth")
    with pytest.raises(ValueError, match="clip_weights: expected a file"):
        call_tool(
            *("tools/build_text_protos.py", "--prompts", PUBLISHED, "--encoder", "talk2dino"),
            *words,
        )


@pytest.mark.parametrize("second", ["hidden_layers.0", "linear_layer2"])
def test_talk2dino_maps_by_its_published_layers(tmp_path, monkeypatch, second):
    clip = torch.tensor([[0.5, -1.0]])
    monkeypatch.setattr(text_prototypes, "clip_encoder", lambda *_: lambda texts: clip)
    state = {
        "linear_layer.weight": torch.tensor([[2.0, 0.0], [0.0, 1.0]]),
        "linear_layer.bias": torch.tensor([0.0, 1.0]),
        f"{second}.weight": torch.tensor([[3.0, 5.0]]),
        f"{second}.bias": torch.tensor([0.25]),
    }
    torch.save(state, tmp_path / "mlp.pth")
    encode = text_prototypes.talk2dino_encoder(tmp_path / "mlp.pth", "clip.pt")
    expected = 3 * np.tanh(1.0) + 5 * np.tanh(0.0) + 0.25
    assert encode(["car"]).tolist() == [[pytest.approx(expected)]]
    torch.save({**state, "temperature": torch.ones(1)}, tmp_path / "mlp.pth")
    with pytest.raises(ValueError, match=r"mlp\.pth: expected .* got .*temperature"):
        text_prototypes.talk2dino_encoder(tmp_path / "mlp.pth", "clip.pt")


def test_templates_are_averaged():
    table = {"a car": [2.0, 0.0], "the car": [0.0, 4.0]}

    def encoder(texts):
        return torch.tensor([table[text] for text in texts])

    plain = embed_prompts(encoder, ["car"], ["a {}", "the {}"])
    assert plain.tolist() == [[1.0], [2.0]]
    unit = embed_prompts(encoder, ["car"], ["a {}", "the {}"], "l2")
    torch.testing.assert_close(unit, torch.full((2, 1), 0.5**0.5))
    with pytest.raises(ValueError, match=r"expected a \{\}"):
        embed_prompts(encoder, ["car"], ["photo"])


def test_stored_embeddings_must_hold_every_prompt(tmp_path):
    np.savez(tmp_path / "few.npz", car=np.ones(3))
    with pytest.raises(ValueError, match="bus"):
        stored_encoder(tmp_path / "few.npz")(["car", "bus"])


def test_basis_of_prototypes_keeps_their_dot_products():
    prototypes = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    basis = span_basis(prototypes, 5).float()
    torch.testing.assert_close(basis.T @ basis, torch.eye(5), atol=1e-6, rtol=0)
    feature = torch.randn(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        (feature @ basis) @ (basis.T @ prototypes), feature @ prototypes, atol=1e-5, rtol=1e-5
    )
    with pytest.raises(ValueError, match="at most the 5 directions"):
        span_basis(prototypes, 6)
