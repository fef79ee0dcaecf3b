"""Published appearance maps to ours and back."""

import json

import numpy as np
import pytest
import torch

from mmcity.apis import SceneRenderer, convert_checkpoint
from mmcity.engine.rap.published_map import read_cfg_args, scene_config
from mmcity.models.rap import AppearanceModel
from mmcity.structures.io.ply import write_ply_vertices
from tests.cli.conftest import call_tool
from tests.conftest import golden_dir
from tests.devices import DEVICE
from tests.parity.rap_weights import base_seed, generated_weights

COUNT = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as the published code writes it, with generated weights."""
    golden = golden_dir("rap")
    tables = json.loads((golden / "appearance_state_dict_keys.json").read_text())
    seed, root = base_seed(golden), tmp_path_factory.mktemp("published")
    folder = root / "ckpts_point_cloud" / "iteration_30000"
    folder.mkdir(parents=True)
    (root / "ckpts_point_cloud" / "iteration_7000").mkdir()
    rng = np.random.RandomState(0)
    f_intr = rng.normal(0, 0.3, (COUNT, 16, 3)).astype(np.float32)
    columns = {name: rng.normal(0, 1, COUNT).astype(np.float32) for name in "xyz"}
    columns |= {name: np.zeros(COUNT, np.float32) for name in ("nx", "ny", "nz")}
    columns |= {f"f_intr_{c * 16 + k}": f_intr[:, k, c] for c in range(3) for k in range(16)}
    columns["opacity"] = np.full(COUNT, 3, np.float32)
    columns |= {f"scale_{k}": np.full(COUNT, -1.0, np.float32) for k in range(3)}
    columns |= {f"rot_{k}": np.full(COUNT, float(k == 0), np.float32) for k in range(4)}
    write_ply_vertices(folder / "point_cloud.ply", columns)
    parts = {"map_generator": 3, "color_net": 4}
    weights = {name: generated_weights(tables[name], seed + k) for name, k in parts.items()}
    for name, state in weights.items():
        torch.save({f"_orig_mod.{k}": v for k, v in state.items()}, folder / f"{name}.pth")
    box = torch.rand(COUNT, 3, 2) * 2 - 1
    box[:, 2] = 512.0
    torch.save(
        {"box_coord": torch.nn.Parameter(box), "non": torch.zeros(1)},
        folder / "other_attributes_dict.pth",
    )
    (root / "cfg_args").write_text(
        "Namespace(source_path='/data/x', antialiasing=True, white_background=False, "
        "map_num=3, coord_scale=1, use_color_net=True, color_net_params={'pos_encoding': True})"
    )
    cameras = [
        {
            "id": k, "img_name": f"{k}", "width": 64, "height": 48, "position": [0.2 * k, 0, -5],
            "rotation": np.eye(3).tolist(), "fx": 60.0, "fy": 61.0,
        }
        for k in range(3)
    ]  # fmt: skip
    (root / "cameras.json").write_text(json.dumps(cameras))
    return root, weights, f_intr, box


def test_converted_map_renders_as_its_parts_say(published, tmp_path):
    root, weights, f_intr, box = published
    convert_checkpoint("rap-map", root, tmp_path / "map.pth")
    renderer = SceneRenderer(tmp_path / "map.py", tmp_path / "map.pth", device=DEVICE)
    scene = renderer.model
    np.testing.assert_allclose(scene.splats.f_intr.detach(), f_intr)
    assert int(scene.iteration) == 30000
    camera = renderer.training_cameras[1].to(renderer.device)
    assert camera.one_size() == (64, 48) and float(camera.Ks[0, 1, 1]) == 61
    np.testing.assert_allclose(camera.centers[0], [0.2, 0, -5], atol=1e-6)
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    scene.set_appearance(image, camera)

    # The published code normalises by the statistics of the photograph at hand.
    generator = dict(type="AppearanceMapGenerator", batch_norm_eval=False)
    oracle = AppearanceModel(map_generator=generator).eval()
    oracle.map_generator.load_state_dict(weights["map_generator"])
    oracle.color_net.load_state_dict(weights["color_net"])
    oracle.map_generator.train()
    with torch.no_grad():
        means = scene.splats.means
        vector, _ = oracle.appearance(image, means, box, camera.Ks[0], camera.viewmats[0])
        codes = oracle.color_net.encode(means, vector, torch.from_numpy(f_intr))
    torch.testing.assert_close(scene._codes, codes)
    before = {k: v.clone() for k, v in scene.state_dict().items() if "running" in k}
    scene.set_appearance(image, camera)
    assert all(torch.equal(scene.state_dict()[k], v) for k, v in before.items())
    assert next(renderer.iterate(camera))["alpha"].max() > 0.5


def test_there_and_back(published, tmp_path):
    root, weights, _, box = published
    tool = "tools/model_converters/rap_map_to_mmcity.py"
    call_tool(tool, root, tmp_path / "map.pth", "--iteration", 30000)
    call_tool(tool, tmp_path / "map.pth", tmp_path / "back", "--reverse")
    name = "ckpts_point_cloud/iteration_30000"
    first, second = (
        (folder / name / "point_cloud.ply").read_bytes() for folder in (root, tmp_path / "back")
    )
    assert first == second
    again = torch.load(tmp_path / "back" / name / "color_net.pth", weights_only=True)
    assert all(torch.equal(again[k], v) for k, v in weights["color_net"].items())
    state = torch.load(tmp_path / "back" / name / "other_attributes_dict.pth", weights_only=True)
    assert torch.equal(state["box_coord"], box)


def test_arguments_are_never_run(tmp_path):
    path = tmp_path / "cfg_args"
    path.write_text("Namespace(a=__import__('os').system('touch /tmp/never'))")
    with pytest.raises(ValueError, match="cfg_args"):
        read_cfg_args(path)
    path.write_text("Namespace(resolution=-1, white_background=True, params={'a': [1, 2]})")
    values = read_cfg_args(path)
    assert values == {"resolution": -1, "white_background": True, "params": {"a": [1, 2]}}
    assert scene_config(values, 3)["renderer"]["background"]["color"] == (1,) * 3
