"""Every error that weevit raises on purpose.

    WeevitError
    ├── UsageError                    an invalid argument or output
    │   ├── UnknownModelError         no model of that name
    │   └── RecipeError               a recipe with an invalid value
    ├── MissingExtraError             an optional part is not installed
    ├── ModelError
    │   ├── CheckpointError           a checkpoint that cannot be trusted or used
    │   │   ├── MalformedFileError    config.json or model.safetensors is malformed
    │   │   ├── TensorMismatchError   names, shapes or dtypes differ from the architecture's
    │   │   └── ChecksumError         the bytes differ from the published ones
    │   └── HubError                  the hub could not be reached or said no
    ├── ImageError                    one input has no answer; `status` says why in one word
    │   ├── MissingImageError         missing        nothing is there
    │   ├── UnreadableImageError      unreadable     a folder, a pipe, no permission
    │   ├── DecodeError               decode_error   there are bytes, but no whole image
    │   │   ├── EmptyImageError
    │   │   ├── NotAnImageError
    │   │   ├── TruncatedImageError
    │   │   └── CorruptImageError
    │   ├── UnsupportedImageError     unsupported    a real image that weevit does not read
    │   ├── TooLargeImageError        too_large      over the limit of bytes or pixels
    │   └── NotFiniteError            not_finite     the model's answer is NaN or infinite
    ├── InputsFailedError             an array was asked for, and some inputs have no row to give
    ├── JobError                      a job that cannot be read or trusted, or whose inputs changed
    ├── DatasetError                  images with classes that do not fit together
    ├── TrainingError                 a run that cannot start, resume or be trusted
    │   └── DivergedError             its loss, gradients or answers became NaN or infinite
    ├── EngineError                   the graph could not be run
    └── OutputError                   the output cannot be written, or another process works in it

Each carries a message (the given and the allowed value) and a `hint`: the next command.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WeevitError(Exception):
    """The base of all errors that weevit raises on purpose.

    Args:
        message: the given value, and the allowed ones.
        hint: the next command or the nearest valid value; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = _writable(message), _writable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle an error with any constructor."""
        return _unpickled, (type(self), self.args), vars(self)


def _writable(text: str) -> str:
    """A path may have bytes that are not UTF-8, which no terminal, file or database would take."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _unpickled(kind: type[WeevitError], args: tuple[object, ...]) -> WeevitError:
    return kind.__new__(kind, *args)


class UsageError(WeevitError, ValueError):
    """An invalid argument: an unknown name, a size that does not fit, options that exclude each other.

    An output is invalid, too: a file where a folder is written, an input, what somebody else wrote.
    """


class UnknownModelError(UsageError):
    """No architecture, weight, alias, folder or file has this name."""


class RecipeError(UsageError):
    """A recipe with an unknown key, a wrong unit or a combination that excludes itself; the message names the key."""


class MissingExtraError(WeevitError, ImportError):
    """An optional part of weevit is not installed; the hint is the one line that installs it."""


class ModelError(WeevitError):
    """Something is wrong with a model, not with its input."""


class CheckpointError(ModelError):
    """A checkpoint that cannot be trusted or used."""


class MalformedFileError(CheckpointError):
    """`config.json` or `model.safetensors` breaks its own format; refused before a tensor is made."""


class TensorMismatchError(CheckpointError):
    """Tensor names, shapes or dtypes differ from the architecture's; the message lists all of them."""


class ChecksumError(CheckpointError):
    """The bytes on disk are not the bytes that were published or written."""


class HubError(ModelError):
    """The hub could not be reached, or has no such model, or is not to be asked (offline)."""


class ImageError(WeevitError):
    """One input has no answer.

    Attributes:
        status: one word for the result's row, from a fixed list (see the tree above).
        kind: the same a little finer, for counting: `truncated`, `corrupt`, `empty`, ...
    """

    status = "error"
    kind = "error"


class MissingImageError(ImageError):
    """Nothing is there: no such file, or a link that leads nowhere."""

    status = kind = "missing"


class UnreadableImageError(ImageError):
    """Something is there that is not a file one may read: a folder, a pipe, a device, no permission."""

    status = kind = "unreadable"


class DecodeError(ImageError):
    """There are bytes, but no whole image in them."""

    status = kind = "decode_error"


class EmptyImageError(DecodeError):
    """Zero bytes."""

    kind = "empty"


class NotAnImageError(DecodeError):
    """The bytes belong to no image format that is known here."""

    kind = "not an image"


class TruncatedImageError(DecodeError):
    """The image ends before it is whole. Nothing is substituted for the missing part."""

    kind = "truncated"


class CorruptImageError(DecodeError):
    """The file contradicts itself: the decoder gave up."""

    kind = "corrupt"


class UnsupportedImageError(ImageError):
    """A real image of a kind that has no agreed way to 8-bit RGB (for instance floating-point samples)."""

    status = kind = "unsupported"


class TooLargeImageError(ImageError):
    """More bytes or more pixels than the limit; found before anything was decoded."""

    status = kind = "too_large"


class NotFiniteError(ImageError):
    """The answer holds NaN or infinity: the model's weights or its preprocessing overflow. Nothing follows from it."""

    status = kind = "not_finite"


STATUSES = {own.kind: own.status for one in ImageError.__subclasses__() for own in (one, *one.__subclasses__())}
"""Kind of an `ImageError` -> its status."""


class InputsFailedError(WeevitError):
    """A call that returns one array was given inputs that have no row to give.

    Attributes:
        failures: (input name, reason) for each of them.
    """

    def __init__(self, failures: list[tuple[str, str]], total: int) -> None:
        shown = "\n".join(f"  {name}: {reason}" for name, reason in failures[:10])
        more = f"\n  ... and {len(failures) - 10} more" if len(failures) > 10 else ""
        super().__init__(
            f"{len(failures)} of {total} inputs have no answer, and an array cannot say which:\n{shown}{more}",
            "model.run(...) returns one result for each input, with a status and an error.",
        )
        self.failures = failures


class JobError(WeevitError):
    """A folder of results that cannot be read or trusted, or inputs that changed under a running job."""


class DatasetError(WeevitError):
    """Images with classes that do not fit together: a class that lacks or is too much, no images, no classes."""


class TrainingError(WeevitError):
    """A run that cannot start, resume or be trusted: not finite, damaged, of another recipe or data."""


class DivergedError(TrainingError):
    """Training whose loss, gradients or answers became NaN or infinite."""


class EngineError(WeevitError):
    """The inference engine could not load or run the graph."""


class OutputError(WeevitError):
    """The output cannot be written: the disk is full, the folder is read-only, or another process works in it."""


def nearest(given: str, allowed: Iterable[str], count: int = 3) -> list[str]:
    """The allowed names closest to the one that was given, closest first; may be empty."""
    names = list(allowed)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), list(by_lower), n=count, cutoff=0.5)
    return [by_lower[name] for name in close]


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`Did you mean 'x' or 'y'?`, or an empty string where nothing is near."""
    names = nearest(given, allowed)
    return f"Did you mean {' or '.join(repr(name) for name in names)}?" if names else ""
