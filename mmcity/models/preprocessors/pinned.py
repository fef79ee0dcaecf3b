"""Batches on their way to the device."""

from typing import Any

from mmengine.model import BaseDataPreprocessor

from mmcity.registry import MODELS
from mmcity.structures import to_device


@MODELS.register_module()
class PinnedDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device through page-locked memory, so that the host does not wait."""

    def cast_data(self, data: Any) -> Any:
        """See :func:`~mmcity.structures.to_device`."""
        return to_device(data, self.device)
