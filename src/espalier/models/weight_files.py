"""Reading tensors from a file that a stranger may have made, without running any code in it."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from espalier.errors import EspalierError, WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "module")
_Kind = TypeVar("_Kind", bound=EspalierError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name; nothing in the file is executed.

    Raises:
        WeightsError: Missing, of an unknown format, damaged, unsafe, or without tensors.
    """
    _require_file(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = _innermost(content)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no weights: no tensors by name, and none under {', '.join(_NESTED)}.",
            hint="save model.state_dict() to a .safetensors or .pth file",
        )
    return tensors


def _require_file(path: Path) -> None:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise WeightsError(
            f"The weights file {path} {what}.",
            hint="--weights with `pretrained`, `none`, or a .safetensors or .pth file",
        )
    if path.suffix not in SUFFIXES:
        raise WeightsError(
            f"{path} ends in '{path.suffix}'; weights files end in {', '.join(SUFFIXES)}.",
            hint="rename or convert the file",
        )


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> Any:
    try:
        # timm's training script keeps its command line beside the weights as a Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise unsafe_file(path, error, WeightsError) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def unsafe_file(path: Path, error: Exception, kind: type[_Kind]) -> _Kind:
    """The error for a pickle that is refused: it holds more than tensors, or is no pickle."""
    return kind(
        f"{path} ({path.stat().st_size:,} bytes) was refused: it is damaged, or holds Python "
        f"objects that would run code when opened. Nothing of it was executed.",
        hint="use a file from a source you trust that holds tensors only, such as .safetensors",
        problems=[first_line(error)],
    )


def first_line(error: Exception) -> str:
    """What an exception says in one line of at most 200 characters, the offending name first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "global" in line]
    chosen = (telling or lines or [type(error).__name__])[0]
    return chosen[:200]


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read: truncated, or not a weights file.",
        hint="download or copy the file again",
        problems=[first_line(error)],
    )


def _innermost(content: Any) -> Mapping[Any, Any]:
    """The state dict within the wrappers that training scripts put around it."""
    while isinstance(content, Mapping):
        nested = next((key for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if nested is None:
            return content
        content = content[nested]
    return {}
