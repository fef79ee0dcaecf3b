"""mmcity's modules inside the real mmdet3d."""

import importlib.util
import subprocess
import sys
import warnings

import pytest
import torch

HAS_MMDET3D = all(importlib.util.find_spec(name) for name in ("mmcv", "mmdet", "mmdet3d"))
needs_mmdet3d = pytest.mark.skipif(
    not HAS_MMDET3D,
    reason="mmcv, mmdet and mmdet3d are not installed: docs/faq.md says how to get mmcv",
)

SCRIPT = """
from mmengine.registry import DefaultScope
from mmdet3d.registry import DATASETS, HOOKS, MODELS, TRANSFORMS

name = 'ToyHookOfMmcity'
assert HOOKS.get(name) is None
from mmengine.hooks import Hook
import mmcity.registry as own


@own.HOOKS.register_module()
class ToyHookOfMmcity(Hook):
    pass


from mmengine.hooks import CheckpointHook
import mmcity.compat.mmdet3d

assert HOOKS.get(name) is ToyHookOfMmcity
assert HOOKS.get('mmcity.' + name) is ToyHookOfMmcity
# A name that is taken above keeps its meaning there, and ours is reached by its scope.
assert HOOKS.get('CheckpointHook') is CheckpointHook
assert HOOKS.get('CityCheckpointHook').__module__.startswith('mmcity.')
# mmdet3d's classes resolve from our scope.
assert own.MODELS.get('mmdet3d.Det3DDataPreprocessor').__name__ == 'Det3DDataPreprocessor'
# A second call changes nothing.
assert mmcity.compat.mmdet3d.register_all() == {}
"""


@needs_mmdet3d
@pytest.mark.det3d
@pytest.mark.slow
@pytest.mark.ci_slow
def test_bare_names_resolve_in_mmdet3d_scope():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_mmdet3d
def test_attention_stays_plain_torch_where_mmcv_has_no_cuda(monkeypatch):
    from mmcity.compat import deformable_attention as bridge

    attention = bridge.MultiScaleDeformableAttention
    monkeypatch.setattr(attention, "sampler", staticmethod(bridge.sample_multi_scale))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for version, sampler, n_warnings in (
        ("not available", bridge.sample_multi_scale, 1),
        ("12.1", bridge.sample_with_mmcv, 0),
    ):
        monkeypatch.setattr(bridge, "get_compiling_cuda_version", lambda version=version: version)
        with warnings.catch_warnings(record=True) as seen:
            bridge.use_mmcv_kernel()
        assert attention.sampler is sampler
        assert [w.category for w in seen] == [RuntimeWarning] * n_warnings


def test_missing_mmdet3d_is_one_clear_error():
    script = (
        "import sys; sys.modules['mmdet3d'] = None\n"
        "from mmcity.utils import UserError\n"
        "try:\n    import mmcity.compat.mmdet3d\n"
        "except UserError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith(
        "BridgeError mmcity.compat.mmdet3d: expected mmcv, mmdet and mmdet3d"
    )
    assert "requirements/det3d.txt" in done.stdout
