"""Keys and values of prefixes that come again, kept between calls of the text tower."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import Tensor


@dataclass
class _Kept:
    keys_values: Tensor
    call: int


class PrefixMemory:
    """At most `max_bytes` of keys and values of one model's prefixes, those used last.

    What is kept of a prefix is that of its last token in every layer, (layers, 2, width). For
    CLIP's ViT-B/16 this is 49 kB. A call never displaces what it has itself used or stored, so that
    a long list of prefixes which comes again finds its first ones. A call for other weights,
    changed in place too, empties the memory. Threads may share it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lock = Lock()
        self._calls = 0
        self._first_valid_call = 0
        self._weights: list[Tensor] = []
        self._versions: list[int] = []

    def __len__(self) -> int:
        """Return how many prefixes are kept."""
        return len(self._kept)

    def begin(self, model: Any) -> int:
        """Return the number of a new call with `model`."""
        parameters = list(model.text_model.parameters())
        # Tensors made in inference mode do not count their changes: nothing is kept of them.
        counted = not any(each.is_inference() for each in parameters)
        versions = [each._version for each in parameters] if counted else []
        with self._lock:
            self._calls += 1
            same = counted and versions == self._versions and _same(parameters, self._weights)
            if not same:
                self._kept.clear()
                self.n_bytes = 0
                self._first_valid_call = self._calls
                # Held, so that no other tensor gets their addresses.
                self._weights = [each.detach() for each in parameters] if counted else []
                self._versions = versions
            return self._calls

    def get(self, call: int, prefixes: Sequence[bytes]) -> list[Tensor | None]:
        """Return what is kept of each prefix; shorter ones should come before longer ones."""
        found: list[Tensor | None] = [None] * len(prefixes)
        with self._lock:
            if call < self._first_valid_call:
                return found
            # A prefix is used after what extends it, and so is displaced after it.
            for i in reversed(range(len(prefixes))):
                kept = self._kept.get(prefixes[i])
                if kept is not None:
                    kept.call = max(kept.call, call)
                    self._kept.move_to_end(prefixes[i])
                    found[i] = kept.keys_values
        return found

    def put(self, call: int, prefixes: Sequence[bytes], keys_values: Tensor) -> None:
        """Keep what a call computed for some prefixes, (len(prefixes), layers, 2, width)."""
        with self._lock:
            if call < self._first_valid_call:
                return
            for prefix, each in zip(prefixes, keys_values, strict=True):
                if prefix not in self._kept and self._make_room(each.nbytes, call):
                    # A view would hold all of the tensor.
                    self._kept[prefix] = _Kept(each.clone(), call)
                    self.n_bytes += each.nbytes

    def _make_room(self, n_bytes: int, call: int) -> bool:
        while self.n_bytes + n_bytes > self.max_bytes:
            oldest = next(iter(self._kept), None)
            if oldest is None or self._kept[oldest].call >= call:
                return False
            self.n_bytes -= self._kept.pop(oldest).keys_values.nbytes
        return True


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return [each.data_ptr() for each in some] == [each.data_ptr() for each in others]
