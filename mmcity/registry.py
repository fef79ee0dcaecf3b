"""One registry per role, each a child of mmengine's root registry.

``location`` names the packages whose import fills the registry, so that a type
name in a config is found without the config importing anything.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope="mmcity", locations=list(locations))


RUNNERS = _child(root.RUNNERS, "mmcity.engine")
LOOPS = _child(root.LOOPS, "mmcity.engine")
HOOKS = _child(root.HOOKS, "mmcity.engine")
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, "mmcity.engine")
OPTIMIZERS = _child(root.OPTIMIZERS, "mmcity.engine")
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, "mmcity.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, "mmcity.engine")
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, "mmcity.engine")
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, "mmcity.engine")
DATASETS = _child(root.DATASETS, "mmcity.datasets")
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, "mmcity.datasets")
TRANSFORMS = _child(root.TRANSFORMS, "mmcity.datasets")
MODELS = _child(root.MODELS, "mmcity.models")
TASK_UTILS = _child(root.TASK_UTILS, "mmcity.models")
FUNCTIONS = _child(root.FUNCTIONS, "mmcity.datasets")
METRICS = _child(root.METRICS, "mmcity.evaluation")
EVALUATOR = _child(root.EVALUATOR, "mmcity.evaluation")
VISUALIZERS = _child(root.VISUALIZERS, "mmcity.visualization")
VISBACKENDS = _child(root.VISBACKENDS, "mmcity.visualization")
INFERENCERS = _child(root.INFERENCERS, "mmcity.apis")

#: Densification of Gaussian scenes: clone, split, prune, grow (driven by a hook).
STRATEGIES = Registry("strategy", scope="mmcity", locations=["mmcity.models"])
