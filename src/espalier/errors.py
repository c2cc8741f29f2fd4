"""Every error Espalier raises on purpose.

One tree, one boundary: library code raises these, and only the command line turns them into a
message and an exit code. Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_FOUND_SOMETHING = 1
EXIT_USER_MUST_CHANGE = 2
EXIT_INTERRUPTED = 130


class EspalierError(Exception):
    """What happened with the value, what is allowed, and the command or edit that fixes it.

    Args:
        message: One sentence with the offending value and what is allowed.
        hint: A command or an edit that fixes it; shown after ``try:``.
        problems: All problems of one input, one line each, when there is more than one.
    """

    exit_code: int = EXIT_USER_MUST_CHANGE

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [self.message, *(f"  - {problem}" for problem in self.problems)]
        if self.hint:
            lines.append(f"try: {self.hint}")
        return "\n".join(lines)


class DataError(EspalierError):
    """The photographs, the manifest or the split cannot be trained on as they are."""


class UnreadableImageError(EspalierError):
    """One file could not be decoded as a picture; ``message`` is the reason, without the path."""


class RecipeError(EspalierError):
    """A recipe value is unknown, out of range, or contradicts another."""


class ModelError(EspalierError):
    """The model is unknown, does not fit the image size, or does not fit the checkpoint."""


class WeightsError(EspalierError):
    """Pretrained weights could not be fetched, read safely, or matched to the backbone."""


class RunError(EspalierError):
    """A run folder is missing, incomplete, not writable, or in use by another process."""


class CheckpointError(RunError):
    """A checkpoint file is missing, truncated, unsafe, or belongs to something else."""


class ResumeError(RunError):
    """A run cannot be resumed in the way that was asked for."""


class NonFiniteLossError(EspalierError):
    """The loss became NaN or infinite; training stopped with the last good checkpoint intact."""


class DeviceMemoryError(EspalierError):
    """The device ran out of memory; the hint names a batch that would fit."""


class DiskError(EspalierError):
    """A file could not be written whole (disk full, folder not writable); nothing was replaced."""


class TrainingInterrupted(EspalierError):
    """Training stopped in good order on Ctrl-C or SIGTERM; ``hint`` is the resume command."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = EXIT_INTERRUPTED) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
