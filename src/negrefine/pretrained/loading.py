"""Weights of `transformers` models onto a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError, NegrefineError, is_out_of_memory, one_of
from negrefine.pretrained.hub import ModelKind

if TYPE_CHECKING:
    import torch

_DTYPES = ("bfloat16", "float16", "float32")


def load_weights(
    model_class: Any, kind: ModelKind, directory: Path, name: str, dtype: str, **options: Any
) -> Any:
    """Load a model for inference, on the CPU; pickled weights and remote code are refused.

    The files must have been checked (`pretrained.files.weight_files`). `model_class` is one of
    `transformers`, `name` is what errors call the model, and `dtype` is "float32", "float16",
    "bfloat16", or "auto" for that of the checkpoint. `options` are further ones of
    `from_pretrained`.

    Raises:
        kind.error: The weights are damaged or of another model.
    """
    failure = f"The weights of {name!r} cannot be loaded as a {kind.noun}"
    with loading(failure, kind.advice, kind.error):
        model, report = model_class.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            # They are in the report: the error would say no more than that there are some.
            ignore_mismatched_sizes=True,
            **options,
        )
    if mismatched := sorted(report["mismatched_keys"]):
        tensor, found, expected = mismatched[0]
        raise kind.error(
            f"The weights of {name!r} and its config.json do not belong together: {tensor} has the "
            f"shape {tuple(found)}, and config.json says {tuple(expected)}."
        )
    if missing := sorted(report["missing_keys"]):
        raise kind.error(
            f"The weights of {name!r} lack {len(missing)} tensors, {missing[0]!r} among them: "
            f"{kind.advice}."
        )
    return model.eval().requires_grad_(False)


@contextmanager
def loading(failure: str, advice: str, error_class: type[NegrefineError]) -> Iterator[None]:
    """Turn whatever `transformers` raises into one sentence, and keep it from logging.

    The sentence begins with `failure` and ends with `advice`.
    """
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise error_class(
                f"{failure}: the memory is full; give a smaller model, or float16 as dtype."
            ) from error
        # Files that are missing, cut short or do not fit each raise a class of their own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".:")
        raise error_class(f"{failure} ({reason}): {advice}.") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def pick_device(device: str, error_class: type[NegrefineError] = InputError) -> torch.device:
    """Return a usable torch device; "auto" is a GPU if there is one, otherwise the CPU."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if not isinstance(device, (str, torch.device)):
            raise RuntimeError
        chosen = torch.device(device)
        # A meta tensor has no numbers.
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise error_class(
            f"The device {device!r} cannot be used here: use {one_of(_devices())}."
        ) from error
    return chosen


def _devices() -> list[str]:
    """Return what `device` may be on this machine, in quotes."""
    import torch

    there = ["'auto'", "'cpu'"]
    there += [f"'cuda:{i}'" for i in range(torch.cuda.device_count())]
    return [*there, "'mps'"] if torch.backends.mps.is_available() else there


def check_dtype(dtype: str, error_class: type[NegrefineError] = InputError) -> None:
    """Raise `error_class` if `dtype` is neither "auto" nor the name of a dtype for weights."""
    if dtype not in ("auto", *_DTYPES):
        raise error_class(f"dtype must be 'auto' or one of {list(_DTYPES)}, not {dtype!r}.")
