"""The command `negrefine`."""

from negrefine.cli.app import main

__all__ = ["main"]
