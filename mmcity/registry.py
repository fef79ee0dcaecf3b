"""One registry per role, each a child of mmengine's root registry.

``location`` names the packages whose import fills the registry, so that a type
name in a config is found without the config importing anything.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import EVALUATOR as MMENGINE_EVALUATOR
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import INFERENCERS as MMENGINE_INFERENCERS
from mmengine.registry import LOG_PROCESSORS as MMENGINE_LOG_PROCESSORS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

__all__ = [
    "DATASETS",
    "DATA_SAMPLERS",
    "EVALUATOR",
    "FUNCTIONS",
    "HOOKS",
    "INFERENCERS",
    "LOG_PROCESSORS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "MODEL_WRAPPERS",
    "OPTIMIZERS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "PARAM_SCHEDULERS",
    "RUNNERS",
    "STRATEGIES",
    "TASK_UTILS",
    "TRANSFORMS",
    "VISBACKENDS",
    "VISUALIZERS",
]


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope="mmcity", locations=list(locations))


RUNNERS = _child(MMENGINE_RUNNERS, "mmcity.engine")
LOOPS = _child(MMENGINE_LOOPS, "mmcity.engine")
HOOKS = _child(MMENGINE_HOOKS, "mmcity.engine")
LOG_PROCESSORS = _child(MMENGINE_LOG_PROCESSORS, "mmcity.engine")
OPTIMIZERS = _child(MMENGINE_OPTIMIZERS, "mmcity.engine")
OPTIM_WRAPPERS = _child(MMENGINE_OPTIM_WRAPPERS, "mmcity.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, "mmcity.engine")
PARAM_SCHEDULERS = _child(MMENGINE_PARAM_SCHEDULERS, "mmcity.engine")
MODEL_WRAPPERS = _child(MMENGINE_MODEL_WRAPPERS, "mmcity.engine")
DATASETS = _child(MMENGINE_DATASETS, "mmcity.datasets")
DATA_SAMPLERS = _child(MMENGINE_DATA_SAMPLERS, "mmcity.datasets")
TRANSFORMS = _child(MMENGINE_TRANSFORMS, "mmcity.datasets")
MODELS = _child(MMENGINE_MODELS, "mmcity.models")
TASK_UTILS = _child(MMENGINE_TASK_UTILS, "mmcity.models")
FUNCTIONS = _child(MMENGINE_FUNCTIONS, "mmcity.datasets")
METRICS = _child(MMENGINE_METRICS, "mmcity.evaluation")
EVALUATOR = _child(MMENGINE_EVALUATOR, "mmcity.evaluation")
VISUALIZERS = _child(MMENGINE_VISUALIZERS, "mmcity.visualization")
VISBACKENDS = _child(MMENGINE_VISBACKENDS, "mmcity.visualization")
INFERENCERS = _child(MMENGINE_INFERENCERS, "mmcity.apis")

#: Densification of Gaussian scenes: clone, split, prune, grow (driven by a hook).
STRATEGIES = Registry("strategy", scope="mmcity", locations=["mmcity.models"])
