"""Validation and test that measure a model beside others."""

from collections.abc import Callable, Mapping

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, TestLoop, ValLoop

from mmcity.engine.distributed import unwrap
from mmcity.registry import LOOPS

from .forgiving_loops import SoundBatches


def comparison_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A table of metrics, one line per metric and one column per contender."""
    names = list(rows)
    metrics = [m for m in next(iter(rows.values()))]
    width = max(len(m) for m in metrics)
    lines = [f"{'':{width}} " + " ".join(f"{n:>12}" for n in names)]
    for metric in metrics:
        cells = " ".join(f"{rows[n][metric]:12.4f}" for n in names)
        lines.append(f"{metric:{width}} {cells}")
    return "\n".join(lines)


@torch.no_grad()
def _measure_all(loop: BaseLoop) -> dict[str, float]:
    """Run every contender of the model over the data."""
    model = loop.runner.model
    model.eval()
    inner = unwrap(model)
    contenders: Mapping[str, Callable] = inner.contenders()
    rows, batches = {}, SoundBatches(loop.dataloader)
    loop.failures = batches.failures
    for name, predict in contenders.items():
        for batch in batches:
            with batches.failures.item(batches.name):
                # Predictions are written into the samples, so every contender gets fresh ones.
                data = inner.data_preprocessor(batch, False)
                loop.evaluator.process(
                    data_samples=predict(data["inputs"], data["data_samples"]), data_batch=batch
                )
        rows[name] = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    if is_main_process():
        print_log("\n" + comparison_table(rows), logger="current")
    return {
        f"{name}/{metric}": value for name, row in rows.items() for metric, value in row.items()
    }


@LOOPS.register_module()
class ComparisonValLoop(ValLoop):
    """Validation of all that the model's ``contenders()`` gives, printed as one table.

    ``contenders()`` is a mapping of names to functions ``(inputs, data_samples) -> samples``.
    Metrics are named ``contender/metric``. Arguments are those of mmengine's ``ValLoop``.
    """

    def run(self) -> dict[str, float]:
        """Measure."""
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        metrics = _measure_all(self)
        self.runner.call_hook("after_val_epoch", metrics=metrics)
        self.runner.call_hook("after_val")
        return metrics


@LOOPS.register_module()
class ComparisonTestLoop(TestLoop):
    """The same for tests."""

    def run(self) -> dict[str, float]:
        """Measure."""
        self.runner.call_hook("before_test")
        self.runner.call_hook("before_test_epoch")
        metrics = _measure_all(self)
        self.runner.call_hook("after_test_epoch", metrics=metrics)
        self.runner.call_hook("after_test")
        return metrics
