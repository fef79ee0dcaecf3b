"""Both stages of training in one run: the teacher first, then the student from it."""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS

from .mean_geometry import MeanGeometry
from .outputs import unpack_inputs


@MODELS.register_module()
class TeacherThenStudent(BaseModel):
    """Trains a small bidirectional teacher and distils it into the causal student.

    For ``teacher_iters`` training steps the teacher learns from the ground truth. Then the
    student takes over its weights and learns from its outputs. Published models skip the
    first stage: use :class:`StreamVGGT` with ``teacher_checkpoint`` for them.

    Args:
        teacher: Config of a :class:`VGGT` with a loss on ground truth.
        student: Config of a :class:`StreamVGGT` with a distillation loss.
        teacher_iters: Length of the first stage in training steps.
        averages: Arguments of :class:`MeanGeometry`, which then learns along and takes part
            in the comparison. Defaults to None.
        data_preprocessor: Config. Defaults to :class:`PinnedDataPreprocessor`.
        init_cfg: As in mmengine. Defaults to None.
    """

    def __init__(
        self,
        teacher: Mapping,
        student: Mapping,
        teacher_iters: int,
        averages: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(data_preprocessor or PinnedDataPreprocessor(), init_cfg)
        self._untrained = dict(copy.deepcopy(dict(teacher)), loss=None)
        self.averages = None if averages is None else MeanGeometry(**averages)
        self.teacher = MODELS.build(dict(teacher))
        self.student = MODELS.build(dict(student))
        self.teacher_iters = teacher_iters
        # In the checkpoint, so that a resumed run knows its stage.
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self._steps = 0  # the same, for which nobody waits

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._steps = int(self.steps_done)

    @property
    def is_distilling(self) -> bool:
        """Whether the first stage is over."""
        return self._steps >= self.teacher_iters

    @property
    def current(self) -> BaseModel:
        """The network that is trained and tested now."""
        return self.student if self.is_distilling else self.teacher

    def forward(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        data_samples: Sequence | None = None,
        mode: str = "tensor",
    ):
        """As of the current network; see :meth:`VGGT.forward`."""
        if mode != "loss":
            return self.current(inputs, data_samples, mode)
        if self.is_distilling and self.student.teacher is None:
            self._start_distilling()
        if self.averages is not None and self.training and not self.is_distilling:
            images, query_points = unpack_inputs(inputs)
            self.averages.update(self.teacher.targets(images, query_points, data_samples))
        losses = self.current(inputs, data_samples, mode)
        if self.training:
            self._steps += 1
            self.steps_done += 1
        return losses

    def _start_distilling(self) -> None:
        if self._steps == self.teacher_iters:
            self.student.load_state_dict(self.teacher.state_dict())
        self.student.set_teacher(self.teacher)

    def train(self, mode: bool = True) -> "TeacherThenStudent":
        """Set training mode; the teacher stays in eval mode once it only teaches."""
        super().train(mode)
        if self.is_distilling:
            self.teacher.eval()
        return self

    def contenders(self) -> dict[str, Callable]:
        """Models that a comparison measures: ``untrained``, ``constant``, ``teacher``, ``student``.

        Each is a function ``(inputs, data_samples) -> data_samples``. ``constant`` is there
        with ``averages``, ``student`` once it has begun to learn.
        """
        device = next(self.parameters()).device
        with torch.random.fork_rng():
            torch.manual_seed(0)
            untrained = MODELS.build(self._untrained).to(device).eval()
        models = {"untrained": untrained.predict}
        if self.averages is not None:
            models["constant"] = self._predict_averages
        models["teacher"] = self.teacher.predict
        if self.is_distilling:
            models["student"] = self.student.predict

        def bind(predict: Callable) -> Callable:
            def run(inputs, data_samples=None):
                images, query_points = unpack_inputs(inputs)
                return predict(images, query_points, data_samples)

            return run

        return {name: bind(predict) for name, predict in models.items()}

    def _predict_averages(self, images: Tensor, query_points, data_samples) -> list:
        return self.teacher.fill_samples(self.averages.run(images), images, data_samples)
