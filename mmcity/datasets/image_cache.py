"""A cache of decoded pictures with a bound in bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np


class ByteLRUCache:
    """Keeps what was used last, up to a number of bytes. Threads may share it.

    Args:
        max_bytes (int): Bound of the sum of all arrays in all values; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = int(max_bytes)
        self.bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __getstate__(self) -> dict:
        # A worker process starts with an empty cache of its own.
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    @staticmethod
    def size_of(value: dict) -> int:
        """Bytes of the arrays in a dict."""
        return sum(item.nbytes for item in value.values() if isinstance(item, np.ndarray))

    def get(self, key: Hashable) -> Any | None:
        """The value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: dict) -> bool:
        """Keep a value and drop the oldest ones; False if it alone exceeds the bound."""
        size = self.size_of(value)
        with self._lock:
            if size > self.max_bytes:
                return False
            if key in self._values:
                self.bytes -= self._values.pop(key)[1]
            self._values[key] = (value, size)
            self.bytes += size
            while self.bytes > self.max_bytes:
                self.bytes -= self._values.popitem(last=False)[1][1]
        return True
