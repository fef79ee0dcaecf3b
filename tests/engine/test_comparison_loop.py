"""Contenders of a comparison are measured on all samples that can be read."""

from types import SimpleNamespace

import pytest
import torch

from mmcity.engine.loops.comparison_loop import _measure_all
from mmcity.utils.cli import UserError


class _Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, row):
        if row == 2:
            raise ValueError("broken.png: expected an image")
        return float(row)


class _Model(torch.nn.Module):
    def contenders(self):
        return {
            "plain": lambda inputs, samples: inputs,
            "double": lambda inputs, samples: [2 * value for value in inputs],
        }

    def data_preprocessor(self, batch, training):
        return {"inputs": batch, "data_samples": batch}


class _Evaluator:
    def __init__(self):
        self.values = []

    def process(self, data_samples, data_batch):
        self.values += data_samples

    def evaluate(self, size):
        values, self.values = self.values, []
        return {"mean": sum(values) / len(values)}


def test_all_contenders_leave_out_the_same_samples():
    loader = torch.utils.data.DataLoader(_Samples(), batch_size=2, collate_fn=list)
    loop = SimpleNamespace(
        runner=SimpleNamespace(model=_Model()), dataloader=loader, evaluator=_Evaluator()
    )

    assert _measure_all(loop) == {"plain/mean": 4 / 3, "double/mean": 8 / 3}
    with pytest.raises(UserError, match="1 of 4 samples failed.*sample 2: broken.png"):
        loop.failures.check()
