"""Base class of data transforms."""

from abc import ABCMeta, abstractmethod


class BaseTransform(metaclass=ABCMeta):
    """A step of a data pipeline: takes a dict of results and gives it back, changed.

    A transform that changes the picture's geometry also offers
    ``update_camera(results)``, which changes only ``results['camera']``; a dataset uses it to
    know the final cameras without reading images.
    """

    def __call__(self, results: dict) -> dict:
        """Apply :meth:`transform`."""
        return self.transform(results)

    @abstractmethod
    def transform(self, results: dict) -> dict:
        """Change ``results`` and return it."""
