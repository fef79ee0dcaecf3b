"""Every command of README, docs and configs is run by a test, or says here what it needs.

Options of all of them are checked against the script, so that a renamed option is noticed in
the page that still tells of it.
"""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PAGES = [
    REPO / "README.md",
    *sorted((REPO / "docs").rglob("*.md")),
    *sorted((REPO / "configs").rglob("*.md")),
    *sorted((REPO / "projects").rglob("*.md")),
]
#: Script of a command, and the test that runs it.
RUN_BY = {
    "tools/train.py": "tests/cli/test_train_test.py",
    "tools/test.py": "tests/cli/test_train_test.py",
    "tools/dist_train.sh": "tests/cli/test_dist.py",
    "tools/dist_test.sh": "tests/cli/test_dist.py",
    "tools/stream.py": "tests/cli/test_stream.py",
    "tools/export.py": "tests/cli/test_export.py",
    "tools/viewer.py": "tests/cli/test_small_commands.py",
    "tools/visualize.py": "tests/cli/test_small_commands.py",
    "tools/localize.py": "tests/cli/test_small_commands.py",
    "tools/analysis_tools/collect_env.py": "tests/cli/test_small_commands.py",
    "tools/analysis_tools/print_config.py": "tests/cli/test_small_commands.py",
    "tools/model_converters/streamvggt_to_mmcity.py": "tests/cli/test_stream.py",
    "tools/dataset_converters/create_toytown.py": "tests/cli/test_small_commands.py",
    "tools/dataset_converters/reduce_colmap.py": "tests/datasets/test_reduce_colmap.py",
    "tools/fit_depth_scale.py": "tests/models/citygsx/test_tools.py",
    "tools/filter_depth.py": "tests/models/citygsx/test_tools.py",
    "tools/extract_mesh.py": "tests/models/citygsx/test_tools.py",
    "tools/bake_scene.py": "tests/models/citygsx/test_tools.py",
    "projects/city_twin/run.py": "tests/projects/test_city_twin.py",
    "mim": "tests/cli/test_mim.py",
    "mmcity": "tests/cli/test_mmcity_command.py",
    "mmcity_ops.build": "tests/ops/test_build.py",
}
#: What the other commands need; the first pattern that fits counts.
NEEDS = {
    r"^make (demo|test|docs|lint|install|sanitize)": "is the outermost command itself",
    r"^(CFLAGS=.*)?pip (install|wheel)": "a package index",
    r"^python -m venv": "a package index for what follows",
    r"mmcity_ops\.build --cuda": "nvcc",
    r"mim train mmdet3d": "mmcv, mmdet, mmdet3d (tests/compat)",
    r"tools/slurm_": "Slurm",
    r"tools/benchmark\.py": "an idle machine",
    r"tools/gpu_check\.sh": "a GPU",
    r"tools/generate\.py": "a trained model",
    r"tools/export_rollouts\.py": "a trained autoencoder",
    r"tools/update_data\.py": "nuScenes info files",
    r"tools/train_scenes\.sh": "several captures",
    r"tools/dataset_converters/": "the capture it converts",
    r"tools/analysis_tools/": "a trained run",
    r"tools/model_converters/": "published weights",
    r"tools/[a-z_]+\.py": "a trained model or a capture",
    r"^(torchrun|mpirun|srun|export|cd|git|docker|for|done)\b": "the launcher or shell named",
}
FENCE = re.compile(r"^```(?:bash|sh|shell|console)[^\n]*\n(.*?)^```", re.S | re.M)


def commands() -> dict[str, set[str]]:
    """Command lines, with the pages that hold them."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"(^|\s)#.*$", "", line).strip()
                line = re.sub(r"\s+", " ", line).removeprefix("$ ")
                if line:
                    found.setdefault(line, set()).add(str(page.relative_to(REPO)))
    return found


COMMANDS = commands()


def script_of(command: str) -> str | None:
    """Script, module or program of a command line that is ours."""
    words = [word for word in command.split() if not re.match(r"^[A-Z_]+=", word)]
    for word in words[:3]:
        if re.match(r"^(tools|projects|demo)/.*\.(py|sh)$", word):
            return word
    if words[:2] == ["python", "-m"]:
        return words[2]
    return words[0] if words and words[0] in ("mim", "mmcity") else None


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_is_run_by_a_test_or_says_what_it_needs(command):
    script = script_of(command)
    where = f"`{command}` in {sorted(COMMANDS[command])}"
    for pattern, need in NEEDS.items():
        if re.search(pattern, command) and (script not in RUN_BY or "--cuda" in command
                                            or "mmdet3d" in command):  # fmt: skip
            assert need
            return
    assert script in RUN_BY, f"{where}: no test runs it; add one, or what it needs"
    test = REPO / RUN_BY[script]
    assert test.is_file(), f"{where}: {RUN_BY[script]} does not exist"
    assert Path(script).stem in test.read_text(encoding="utf-8"), f"{RUN_BY[script]} lacks {script}"


@pytest.mark.parametrize(
    "command", [c for c in sorted(COMMANDS) if (script_of(c) or "").endswith((".py", ".sh"))]
)
def test_script_and_options_exist(command):
    script = REPO / script_of(command)
    assert script.is_file(), f"`{command}` in {sorted(COMMANDS[command])}: no {script.name}"
    if script.suffix == ".sh":
        return  # passes its options on
    text = script.read_text(encoding="utf-8")
    if script.name == "benchmark.py":  # sub-commands live beside it
        text += "".join(f.read_text() for f in (REPO / "tools" / "analysis_tools").glob("*.py"))
    for option in re.findall(r"(?<=\s)(--[a-z][a-z-]*|-[a-zA-Z])(?=[\s=]|$)", command):
        assert f'"{option}"' in text, f"`{command}` in {sorted(COMMANDS[command])}: no {option}"


def test_tables_name_no_command_that_is_gone():
    for script, test in RUN_BY.items():
        assert (REPO / test).is_file(), f"{script}: {test} does not exist"
        if "/" in script:
            assert (REPO / script).is_file(), f"{script} does not exist"
