"""Watching a detector at work: does the stream still look like the calibration images?"""

from negrefine.monitoring.calibration import MonitoredCalibration, MonitoredGroup
from negrefine.monitoring.monitor import Monitor
from negrefine.monitoring.status import Alarm, Status

__all__ = ["Alarm", "Monitor", "MonitoredCalibration", "MonitoredGroup", "Status"]
