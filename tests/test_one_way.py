"""Files of users are read and written by one function per kind; the raw calls stand nowhere else.

Each exception names its reason. docs/advanced_guides/architecture.md lists the functions.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SOURCES = [
    path
    for folder in ("mmcity", "projects", "demo")
    for path in sorted((REPO / folder).rglob("*.py"))
    if ".mim" not in path.parts
]
PICTURES, TEXT = "mmcity/utils/picture_files.py", "mmcity/utils/fileio.py"

#: Raw call: where it may stand, and why.
ALLOWED = {
    "Image.open": {
        PICTURES: "the reader of pictures",
        "mmcity/structures/io/sog_textures.py": "codes of a scene, in memory, of checked size",
        "mmcity/toytown/sensors/effects.py": "JPEG in memory, of the toy town itself",
    },
    "convert": {
        PICTURES: "the reader of pictures",
        "mmcity/structures/io/sog_textures.py": "codes of a scene, in memory, of checked size",
        "mmcity/toytown/sensors/effects.py": "JPEG in memory, of the toy town itself",
    },
    "json.dump": {TEXT: "the writer of JSON"},
    "json.load": {
        TEXT: "the reader of JSON",
        "mmcity/structures/io/glb.py": "part of a binary file",
        "mmcity/toytown/writers/common.py": "a copy in memory",
        "mmcity/workflow/benchmarks/scenes.py": "a line of mmengine's log",
    },
    "open text": {
        TEXT: "the reader of text",
        "mmcity/datasets/io/colmap_text.py": "writes line by line",
        "mmcity/datasets/io/nvm.py": "VisualSFM writes any encoding",
        "mmcity/utils/child_process.py": "log of a child process",
    },
    "read_text": {
        "mmcity/cli/options.py": "source of the package",
        "mmcity/utils/child_process.py": "log of a child process",
        "mmcity/workflow/benchmarks/clocks.py": "/proc",
        "mmcity/workflow/benchmarks/ops.py": "/proc",
        "mmcity/workflow/benchmarks/streaming.py": "/proc",
    },
    "write_text": {},
    "loadtxt": {},
    "csv reader": {TEXT: "the reader of tables"},
    "np.load": {
        TEXT: "the reader of arrays",
        "mmcity/apis/scenes/extract_mesh.py": "parts that it wrote itself",
        "mmcity/apis/streaming/depth_estimators.py": "toy town",
        "mmcity/apis/occupancy/foundation_maps/providers.py": "toy town",
        "mmcity/datasets/io/info_pickle.py": "pickled arrays, read without running code",
        "mmcity/datasets/io/map_store.py": "maps that it wrote itself",
        "mmcity/engine/scene_mesh.py": "parts that it wrote itself",
        "mmcity/toytown/writers/citygsx.py": "toy town",
        "mmcity/toytown/writers/training_layouts.py": "toy town",
        "mmcity/workflow/benchmarks/ops_workloads.py": "carried vectors",
        "mmcity/workflow/city_twin/future.py": "toy town",
        "mmcity/workflow/city_twin/geometry.py": "toy town",
        "mmcity/workflow/city_twin/occupancy.py": "toy town",
        "mmcity/workflow/city_twin/reconstruction.py": "toy town",
        "mmcity/workflow/demo.py": "toy town",
    },
    "cv2.imread": {},
    "cv2.imwrite": {},
    "np.save": {TEXT: "the writer of arrays"},
    "torch.save": {"mmcity/utils/torch_files.py": "the writer of tensors"},
    # By these a picture would lose its folder.
    "stem": {
        "mmcity/apis/scenes/layers.py": "name of a checkpoint",
        "mmcity/apis/streaming/depth_estimators.py": "toy town, flat by its own rule",
        "mmcity/datasets/io/rollout_files.py": "frames of occupancy",
        "mmcity/datasets/sequences/eval_layouts.py": "layouts fixed by benchmarks",
        "mmcity/datasets/sequences/sequence_dataset.py": "frames of one folder",
        "mmcity/datasets/sequences/train_layouts.py": "layouts fixed by data sets",
        "mmcity/engine/checkpointing/shards.py": "checkpoints",
        "mmcity/engine/checkpointing/loader.py": "checkpoints",
        "mmcity/engine/dry_run/table.py": "name of a config",
        "mmcity/engine/launch.py": "name of a config",
        "mmcity/evaluation/feature_extractors.py": "weights",
        "mmcity/models/dynamiccity/encoder.py": "part of a network",
        "mmcity/utils/fileio.py": "temporary names",
        "mmcity/utils/published_weights.py": "name of a config",
        "mmcity/visualization/dumped_results.py": "dumps of one folder",
        "mmcity/visualization/occupancy_results.py": "dumps of one folder",
        "mmcity/visualization/viewer/files.py": "names of layers",
        "mmcity/workflow/benchmarks/localization.py": "part of a network",
        "mmcity/workflow/city_twin/city_twin.py": "name of a config",
        "mmcity/workflow/city_twin/geometry.py": "toy town, flat by its own rule",
        "mmcity/workflow/city_twin/reconstruction.py": "toy town, flat by its own rule",
        "mmcity/workflow/city_twin/render.py": "names of artefacts",
        "mmcity/workflow/demo.py": "toy town, flat by its own rule",
    },
    "sorted frames": {},
    # By these a killed writer's temporary file counts as data.
    "hidden files": {
        "mmcity/datasets/converters/images_to_colmap.py": "a folder of its own, cleared",
        "mmcity/datasets/converters/reduce_colmap.py": "whether a folder is empty",
        "mmcity/datasets/io/colmap_model.py": "folders with numbers, and a message",
        "mmcity/datasets/occ_sequence.py": "folders",
        "mmcity/datasets/sequences/eval_layouts.py": "folders",
        "mmcity/engine/dry_run/table.py": "configs",
        "mmcity/toytown/writers/common.py": "whether a folder is empty, sums of all files",
        "mmcity/toytown/writers/nuscenes.py": "removes a folder of its own",
        "mmcity/utils/images.py": "hides them itself",
        "mmcity/workflow/benchmarks/clocks.py": "/proc",
        "mmcity/workflow/city_twin/geometry.py": "folders",
        "mmcity/workflow/demo.py": "removes older results",
    },
}
_FRAMES = ("png", "jpg", "label", "_04.npz", "frame-", "img*")


#: Functions that leave hidden files out.
_HIDING = ("visible", "natural_order", "list_images")


def _shown(tree: ast.AST) -> set[ast.AST]:
    """What stands within a call that leaves hidden files out."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    hiding = (call for call in calls if ast.unparse(call.func).endswith(_HIDING))
    return {inner for call in hiding for inner in ast.walk(call)}


def raw_calls(source: str) -> Iterator[tuple[str, int]]:
    """Kinds of raw calls in a module, with their lines."""
    tree = ast.parse(source)
    shown = _shown(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "stem":
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield "stem", node.lineno
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        words = [w.value for w in node.args if isinstance(w, ast.Constant)]
        if text.endswith("Image.open"):
            yield "Image.open", node.lineno
        elif text.endswith(".convert") and len(node.args) == 1 and words[:1] != []:
            yield "convert", node.lineno
        elif text.startswith("json.dump"):
            yield "json.dump", node.lineno
        elif text.startswith("json.load"):
            yield "json.load", node.lineno
        elif text == "open" and not any("b" in str(w) for w in words[-1:]):
            yield "open text", node.lineno
        elif text.endswith((".read_text", ".write_text")):
            yield text.rpartition(".")[2], node.lineno
        elif text.endswith(("np.loadtxt", "np.genfromtxt")):
            yield "loadtxt", node.lineno
        elif text.endswith(("csv.reader", "csv.DictReader")):
            yield "csv reader", node.lineno
        elif text in ("cv2.imread", "cv2.imwrite", "np.load", "np.save", "torch.save"):
            yield text, node.lineno
        elif text.endswith(("glob", "iterdir")) and node not in shown:
            pattern = ast.unparse(node.args[0]).strip("rf'") if node.args else "*"
            # "*/cameras.json" names a file, "*.npz" takes any.
            if pattern.rpartition("/")[2].startswith("*"):
                yield "hidden files", node.lineno
        if text == "sorted" and node.args:
            inside = ast.unparse(node.args[0])
            if "glob(" in inside and any(part in inside for part in _FRAMES):
                yield "sorted frames", node.lineno


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("Image.open(path)", "Image.open"),
        ("PIL.Image.open(path).size", "Image.open"),
        ("picture.convert('RGB')", "convert"),
        ("json.dumps(x)", "json.dump"),
        ("json.load(f)", "json.load"),
        ("open(path)", "open text"),
        ("open(path, 'w', encoding='utf-8')", "open text"),
        ("path.read_text(encoding='utf-8')", "read_text"),
        ("path.write_text(x)", "write_text"),
        ("np.loadtxt(path)", "loadtxt"),
        ("csv.DictReader(lines)", "csv reader"),
        ("np.load(path, allow_pickle=False)", "np.load"),
        ("name = path.stem", "stem"),
        ("sorted(folder.glob('*.png'))", "sorted frames"),
        ("sorted(folder.glob('*.npz'))", "hidden files"),
        ("for path in folder.iterdir(): pass", "hidden files"),
    ],
)
def test_raw_calls_are_seen(source, kind):
    assert kind in [found for found, _ in raw_calls(source)]


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'rb')",
        "read_json(path)",
        "self.stem(x)",
        "visible(root.glob('*.tsv'))",
        "root.glob('*/a.json')",
    ],
)
def test_other_calls_pass(source):
    assert not list(raw_calls(source))


def test_files_of_users_are_read_and_written_in_one_way():
    found = {kind: set() for kind in ALLOWED}
    wrong = []
    for path in SOURCES:
        name = path.relative_to(REPO).as_posix()
        for kind, line in raw_calls(path.read_text(encoding="utf-8")):
            found[kind].add(name)
            if name not in ALLOWED[kind]:
                wrong.append(f"{name}:{line}: {kind}")
    assert not wrong, "call the function of the kind, see docs/advanced_guides/architecture.md"
    for kind, names in ALLOWED.items():
        assert not set(names) - found[kind], f"{kind}: exceptions that nothing needs any more"
