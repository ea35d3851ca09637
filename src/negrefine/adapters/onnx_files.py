"""Where an exported model may be written, and what reading and writing one needs."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from negrefine.errors import InputError
from negrefine.files.writing import check_replaceable

FORMAT, FORMAT_VERSION = "negrefine-onnx", 1
_MARK = f'"format": "{FORMAT}"'


def check_onnx(path: str | os.PathLike[str]) -> Path:
    """Return the path of a model to be written.

    Raises InputError where it cannot be written, where a file of others is, or if what exporting
    needs is not installed.
    """
    target = Path(path)
    if target.suffix.lower() != ".onnx":
        raise InputError(f"The model {str(target)!r} must be an ONNX file: end its name in .onnx.")
    check_replaceable(target, _MARK)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise _missing(name)
    return target


def open_session(model: bytes | str | os.PathLike[str]) -> Any:
    """Return the session of onnxruntime, on the CPU, for a model or its file."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise _missing("onnxruntime") from error
    options = runtime.SessionOptions()
    # Errors are raised; what it logs beside them says nothing about the scores.
    options.log_severity_level = 3
    given = model if isinstance(model, bytes) else os.fspath(model)
    return runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def _missing(name: str) -> InputError:
    return InputError(
        f"Exporting needs {name}, which is not installed: pip install 'negrefine[onnx]'."
    )
