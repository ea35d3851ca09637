"""Detectors that learn from the images they score: AdaNeg, TANL and OODD."""

from negrefine.streaming.adaneg import AdaNeg
from negrefine.streaming.base import StreamDetector
from negrefine.streaming.oodd import OODD, OODDictionary
from negrefine.streaming.tanl import TANL

STREAMS: dict[str, type[StreamDetector]] = {cls.method: cls for cls in (AdaNeg, TANL, OODD)}
"""The methods by name, in the order of tables."""

__all__ = ["OODD", "STREAMS", "TANL", "AdaNeg", "OODDictionary", "StreamDetector"]
