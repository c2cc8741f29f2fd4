"""Frozen layers compiled by OpenVINO for this CPU, an optional extra: ``espalier[openvino]``."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from espalier.errors import ModelError
from espalier.models.cut import Piece
from espalier.models.frozen import FrozenLayers
from espalier.models.inference import laid_out

# One shape is compiled, and the last images of a batch are filled up to it. Measured for
# MobileNetV2 at 128 px in bf16: 824 img/s at 8, 820 at 16, 768 at 32.
COMPILED_IMAGES = 8
HINTS = {"fp32": "f32", "bf16": "bf16"}
_PROBE_IMAGES = 2
# Root mean square, of that of the output.
_TOLERANCE = 1e-4
# Roundings of bf16 fall otherwise in other kernels: so many times those of the ordinary way.
_ROUNDING = 2.0
_TELEMETRY = "openvino_telemetry"

Program = Callable[[Tensor], Tensor]


class OpenVinoLayers(FrozenLayers):
    """Frozen layers as OpenVINO runs them: for MobileNetV2 in bf16 1.5-1.9 times faster.

    They are compiled when the first images of a size come, and compared with the ordinary way on
    made-up images; the same weights give the same bits in every process.

    Args:
        pieces: In forward order; they must rest, and go on resting.
        precision: ``fp32`` or ``bf16``: of the arithmetic.
        channels_last: Memory layout of what they give.
        threads: CPU threads.
        on_refusal: Told why layers cannot be compiled; they then run in the ordinary way. None:
            that is an error.

    Raises:
        ModelError: OpenVINO is not installed; when called: it cannot run these layers.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        *,
        precision: str,
        channels_last: bool,
        threads: int,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        version = openvino_version()
        if version is None:
            raise ModelError(
                "features.engine is openvino, which is not installed; allowed here: eager",
                hint="pip install 'espalier[openvino]'",
            )
        cpu = torch.device("cpu")
        super().__init__(pieces, precision=precision, channels_last=channels_last, device=cpu)
        self.engine = f"openvino {version}"
        self.threads = threads
        self.on_refusal = on_refusal
        self._programs: dict[torch.Size, Program] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Activations at the cut, fp32 [B, ...], of normalised images [B, 3, H, W]."""
        size = images.shape[1:]
        if size not in self._programs:
            self._programs[size] = self._program(size)
        return self._programs[size](images)

    def _program(self, size: torch.Size) -> Program:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(_PROBE_IMAGES, *size, generator=generator)
        wanted = self.eager(images, "fp32")
        if not wanted.isfinite().all():
            # OpenVINO's ReLU makes 0 of NaN: broken weights would go unnoticed.
            return super().__call__
        try:
            program = self._compiled(size)
            self._compare(program, images, wanted)
        except ModelError as error:
            if self.on_refusal is None:
                raise
            self.on_refusal(f"{error.message}; frozen layers run in the ordinary way")
            return super().__call__
        return program

    def _compiled(self, size: torch.Size) -> Program:
        # OpenVINO would take the strides of channels-last weights for another shape.
        layers = copy.deepcopy(self.layers).to(memory_format=torch.contiguous_format)
        try:
            compiled = _compile(layers, size, self.precision, self.threads)
        except Exception as error:  # Two compilers, which raise whatever they like.
            raise _refusal(f"cannot compile them ({_first_line(error)})") from error

        def run(images: Tensor) -> Tensor:
            plain = images.detach().float().contiguous()
            found = [_run(compiled, part) for part in torch.split(plain, COMPILED_IMAGES)]
            return laid_out(torch.cat(found), self.layout)

        return run

    def _compare(self, program: Program, images: Tensor, wanted: Tensor) -> None:
        rounding = _distance(self.eager(images, self.precision), wanted)
        allowed = max(_TOLERANCE, _ROUNDING * rounding)
        found = _distance(program(images), wanted)
        # Not the other way round: NaN is near nothing.
        if not found <= allowed:
            raise _refusal(f"gives something else ({found:.2g} away, {allowed:.2g} is allowed)")


def openvino_version() -> str | None:
    """The installed version of OpenVINO; None where there is none."""
    if importlib.util.find_spec("openvino") is None:
        return None
    try:
        return metadata.version("openvino")
    except metadata.PackageNotFoundError:
        return None


def _compile(layers: torch.nn.Module, size: torch.Size, precision: str, threads: int) -> Any:
    openvino = _import_openvino()
    images = torch.zeros(COMPILED_IMAGES, *size)
    with torch.no_grad(), warnings.catch_warnings():
        # About the insides of two packages: nothing that a user could change.
        warnings.simplefilter("ignore")
        exported = torch.export.export(layers, (images,), strict=False)
        model = openvino.convert_model(exported)
        return openvino.Core().compile_model(model, "CPU", _settings(precision, threads))


def _settings(precision: str, threads: int) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # A thread that is pinned waits for whoever else is on its core.
        "ENABLE_CPU_PINNING": False,
    }


def _import_openvino() -> Any:
    """The package, without its telemetry: on import alone it would call a server and write a file.

    It does without where ``openvino_telemetry`` is missing, and so it seems to be, meanwhile.
    """
    with _hidden(_TELEMETRY):
        return importlib.import_module("openvino")


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    missing = object()
    before: Any = sys.modules.get(name, missing)
    modules: dict[str, Any] = sys.modules
    modules[name] = None
    try:
        yield
    finally:
        if before is missing:
            del modules[name]
        else:
            modules[name] = before


def _run(compiled: Any, images: Tensor) -> Tensor:
    """What the compiled layers give for up to ``COMPILED_IMAGES`` images."""
    count = len(images)
    if count < COMPILED_IMAGES:
        images = torch.cat([images, images.new_zeros(COMPILED_IMAGES - count, *images.shape[1:])])
    return torch.from_numpy(compiled(images.numpy())[0])[:count]


def _distance(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    scale = wanted.square().mean().clamp_min(1e-30)
    return float(((found - wanted).square().mean() / scale).sqrt())


def _refusal(reason: str) -> ModelError:
    return ModelError(
        f"features.engine is openvino, which {reason}; allowed here: eager",
        hint="--set features.engine=eager",
    )


def _first_line(error: Exception) -> str:
    """What is told of an error of many lines: those of OpenVINO name the operation in the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "No conversion rule" in line), lines[0] if lines else "")
    return f"{type(error).__name__}: {told.lstrip('- ')}"[:200]
