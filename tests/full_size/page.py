"""The page of what every config does at full size, from the results of ``make test-full``.

python -m tests.full_size.page work_dirs/full_size/results.json
"""

import argparse
from pathlib import Path

from mmcity.utils.fileio import write_text

from .cases import CONFIGS, REPO, Case
from .results import Results
from .stages import Outcome

PAGE = REPO / "docs" / "advanced_guides" / "full_size.md"
STAGES = ("build", "train", "resume", "validate", "test")
_SIGNS = {"passed": "yes", "failed": "**fails**", "left out": "left out"}

_HEAD = """# Every config at full size

What the published configs do on a few frames in the layout of their data set, on a CPU
(`tests/full_size`). `make test-full` runs all of them and goes on where it was killed; `make test`
runs one of each system. This page is written by

```bash
python -m tests.full_size.page work_dirs/full_size/results.json
```

| stage | what is run |
| --- | --- |
| build | networks and a training step at full size, without memory for them (`mmcity dry-run`) |
| train | `mmcity train`, schedules in miniature, ended after two steps (an epoch) as by Ctrl-C |
| resume | `mmcity train --resume`, ended after one step (epoch) more |
| validate | `mmcity train --resume` to its end, with the validation there |
| test | `mmcity test` with the checkpoint; without one where the config only tests |

Weights are random (`--random-weights`); maps, latents and checkpoints that a config names come
from the config that makes them, trained for a step. Depth, heads and the way of the data are those
of the config; the last column tells what was made smaller.

"""


def _cell(case: Case, stage: str, found: dict[str, Outcome]) -> str:
    if stage not in case.stages:
        return ""
    return _SIGNS[found[stage].state] if stage in found else "not run"


def _row(case: Case, found: dict[str, Outcome]) -> str:
    seconds = sum(outcome.seconds for outcome in found.values())
    memory = max((o.memory for s, o in found.items() if s != "build"), default=0)
    cost = f"{seconds:.0f} s, {memory:.1f} GB" if found else ""
    settings = ", ".join(f"`{key}={value}`" for key, value in case.settings.items())
    cells = [_cell(case, stage, found) for stage in STAGES]
    link = f"[{case.name}](../../{case.path.relative_to(REPO)})"
    return f"| {link} | {' | '.join(cells)} | {cost} | {settings} |"


def write_page(results: Path, page: Path = PAGE) -> Path:
    """Write the page.

    Args:
        results: File that the tests added to.
        page: Defaults to that of the documentation.
    """
    cases = {name: Case(name) for name in CONFIGS}
    rows = Results(results).read()
    found = {
        name: {stage: Outcome(**values) for stage, values in row["stages"].items()}
        for name, row in rows.items()
    }
    cells = [
        _cell(case, stage, found.get(name, {}))
        for name, case in cases.items()
        for stage in case.stages
    ]
    count = {sign: cells.count(sign) for sign in (*_SIGNS.values(), "not run")}
    total = ", ".join(f"{number} {sign}" for sign, number in count.items() if number)
    lines = [
        f"{len(cases)} configs, {len(cells)} stages: {total}.\n",
        f"| config | {' | '.join(STAGES)} | CPU time, memory | made smaller |",
        "|" + " --- |" * (len(STAGES) + 3),
        *(_row(case, found.get(name, {})) for name, case in cases.items()),
    ]
    reasons = [
        f"- {name}, {stage}: `{outcome.reason.splitlines()[0][:300]}`"
        for name, stages in found.items()
        for stage, outcome in sorted(stages.items())
        if outcome.state == "failed"
    ]
    if reasons:
        lines += ["\n## What fails\n", *sorted(reasons)]
    write_text(page, _HEAD + "\n".join(lines) + "\n")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    print(write_page(parser.parse_args().results))
