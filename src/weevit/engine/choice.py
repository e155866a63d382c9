"""Which engine computes, in which precision, on which device: one table, and why each row stands there.

The first row of a device and a precision is the default, and the first row of a device has its default precision. So a
user who says nothing gets timm's numbers on the CPU, whatever else is installed, and bf16 only where it was asked for
or where a GPU was.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from weevit.arguments import one_of
from weevit.engine.machine import cpu
from weevit.errors import MissingExtraError, UsageError, WeevitError
from weevit.store.extras import missing

Engine = Literal["onnxruntime", "openvino", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Device = Literal["cpu", "cuda"]
DEVICES: tuple[str, ...] = (*get_args(Device), "auto")
"""`auto` is CUDA where there is some, else the CPU."""


@dataclass(frozen=True)
class Way:
    """One way to have answers computed.

    Attributes:
        device: `cpu` or `cuda`.
        precision: of the matrix products.
        engine: what computes.
        needs: beside the core: extras (`openvino`, `train`), and instructions or hardware (`bf16`, `cuda`).
        batch_size: images per batch where nothing else is asked for.
        why: a reason for it, for people.
    """

    device: Device
    precision: Precision
    engine: Engine
    needs: tuple[str, ...]
    batch_size: int
    why: str

    def __str__(self) -> str:
        return named(self.engine, self.precision, self.device)

    def options(self) -> str:
        """What to type for it, as little as there is; empty for the default."""
        there = [way for way in WAYS if way.device == self.device]
        device = [] if self.device == DEFAULT.device else [f"--device {self.device}"]
        precision = [] if self.precision == there[0].precision else [f"--precision {self.precision}"]
        first = next(way for way in there if way.precision == self.precision)
        return " ".join([*device, *precision, *([] if self == first else [f"--engine {self.engine}"])])


def named(engine: str, precision: str, device: str) -> str:
    """An engine for people, with device and precision where they are not fp32 on a CPU: `openvino in bf16`."""
    where = "" if device == "cpu" else f" on {device}"
    return engine + where + (f" in {precision}" if precision != "fp32" or where else "")


WAYS = (
    Way("cpu", "fp32", "onnxruntime", (), 8, "timm's numbers, with the core alone"),
    Way("cpu", "fp32", "openvino", ("openvino",), 8, "timm's numbers"),
    Way("cpu", "bf16", "openvino", ("bf16", "openvino"), 8, "the one engine that multiplies bf16 on a CPU"),
    Way("cuda", "bf16", "torch", ("train", "cuda"), 256, "the numbers that a GPU multiplies fastest"),
    Way("cuda", "fp32", "torch", ("train", "cuda"), 256, "timm's numbers on a GPU, without TF32"),
)
"""Every way there is, the default before others of its device and precision."""

DEFAULT = WAYS[0]


def choose(engine: str | None = None, precision: str | None = None, device: str = "cpu") -> Way:
    """The way that fits what was asked for; whether it can be had here is found out before anything is loaded.

    Args:
        engine: one of `ENGINES`; None to have it chosen.
        precision: one of `PRECISIONS`; None for the device's default: fp32 on a CPU, bf16 on a GPU.
        device: one of `DEVICES`.

    Raises:
        UsageError: an unknown word, words that contradict each other, or what this machine does not have.
        MissingExtraError: a package that is not installed.
    """
    if engine is not None:
        one_of("engine", engine, ENGINES)
    if precision is not None:
        one_of("precision", precision, PRECISIONS)
    one_of("device", device, DEVICES)
    fitting = [way for way in WAYS if engine in (None, way.engine) and precision in (None, way.precision)]
    if device == "auto":
        # A GPU that is not there is passed over where the CPU can do it, else refused by its name.
        there = [way for way in _gpu_first(fitting) if way.device == "cpu" or refusal(way) is None]
        fitting = there or fitting
    else:
        fitting = [way for way in fitting if way.device == device]
    if not fitting:
        raise _contradiction(engine, precision, device)
    refused = refusal(fitting[0])
    if refused is not None:
        raise refused
    return fitting[0]


def check(engine: str, precision: str) -> None:
    """Refuse an engine that does not compute in a precision on any device.

    Raises:
        UsageError: an unknown word, or such a pair.
    """
    one_of("engine", engine, ENGINES)
    one_of("precision", precision, PRECISIONS)
    if not any((way.engine, way.precision) == (engine, precision) for way in WAYS):
        raise _contradiction(engine, precision, "auto")


def _gpu_first(ways: list[Way]) -> list[Way]:
    """Those of a GPU before those of the CPU, else in their order."""
    return sorted(ways, key=lambda way: way.device == "cpu")


def refusal(way: Way) -> WeevitError | None:
    """Why a way cannot be had on this machine, as the error to raise; None where it can."""
    for need in way.needs:
        error = _NEEDS[need](way)
        if error is not None:
            return error
    return None


def _contradiction(engine: str | None, precision: str | None, device: str) -> UsageError:
    where = "" if device == "auto" else f" on {device}"
    in_precision = f" in {precision}" if precision else ""
    own = [way for way in WAYS if way.engine == engine]
    allowed = ", ".join(f"{way.precision} on {way.device}" for way in own)
    wanted = [way for way in WAYS if device in (way.device, "auto") and precision in (None, way.precision)]
    hint = f"--device {own[0].device}"
    if wanted and any(device in (way.device, "auto") for way in own):
        hint = f"--precision {wanted[0].precision}   without --engine chooses {wanted[0].engine}"
    return UsageError(f"The engine {engine} does not compute{in_precision}{where}; it computes {allowed}.", hint)


def _bf16(way: Way) -> UsageError | None:
    del way
    found = cpu()
    if found.bf16:
        return None
    said = "has neither avx512_bf16 nor amx_bf16" if found.known else "does not tell whether it multiplies bf16"
    return UsageError(
        f"Precision bf16 needs a processor that multiplies bf16; this one ({found.name}) {said}.",
        "--precision fp32   is the default; `weevit doctor` says what else there is",
    )


def _openvino(way: Way) -> MissingExtraError | None:
    if find_spec("openvino") is not None:
        return None
    if way.precision == "fp32":
        return missing("openvino", "The engine 'openvino' is not installed.")
    return missing("openvino", f"Precision {way.precision} needs the engine 'openvino', which is not installed.")


def _train(way: Way) -> MissingExtraError | None:
    del way
    return None if find_spec("torch") is not None else missing("train", "A GPU needs PyTorch, which is not installed.")


def _cuda(way: Way) -> UsageError | None:
    del way
    reason = _no_cuda()
    return UsageError(f"There is no GPU to compute on: {reason}.", "--device cpu") if reason else None


def _no_cuda() -> str:
    from weevit.engine.torch import no_cuda  # imports PyTorch, 1 to 2 s

    return no_cuda()


_NEEDS = {"bf16": _bf16, "openvino": _openvino, "train": _train, "cuda": _cuda}
"""A need of a way -> what refuses it where it is not met."""
