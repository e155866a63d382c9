"""Bytes to an upright 8-bit RGB image, or one typed error that says why there is none.

Nothing is guessed or substituted: a file gives its whole image or an error. For every format alike:

- Orientation: the EXIF tag (or an AVIF's own rotation) is applied, once.
- Animations and files of many pages: the first frame.
- Transparency: composited over white.
- More than 8 bits per sample: the high 8 bits, so that the whole range is kept and not clipped at 255.
- CMYK, YCCK, Lab, palettes and grey: converted as Pillow does it.
- Colour profiles (ICC): not applied. timm trains and evaluates on the pixels of the file; applying profiles would give
  other answers than timm for every image that has one.
- Floating-point and 32-bit samples: refused, because their range is not known.

Safe to call from many threads: no setting of Pillow or of Python's warnings is changed. Pillow's own warnings about
odd metadata are left to the caller's filters.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, features

from weevit.arguments import whole
from weevit.errors import (
    CorruptImageError,
    EmptyImageError,
    MissingImageError,
    NotAnImageError,
    TooLargeImageError,
    TruncatedImageError,
    UnreadableImageError,
    UnsupportedImageError,
    UsageError,
    WeevitError,
)
from weevit.images import jpeg, png
from weevit.images.budget import BUDGET, FullError
from weevit.images.exif import check_directory
from weevit.images.formats import FORMATS, KNOWN_BY_NAME_ONLY, PACKED, Format, Signature, check_name
from weevit.store.extras import install


@dataclass(frozen=True)
class Limits:
    """Limits above which an image is refused before decoding, with TooLargeImageError.

    Attributes:
        max_bytes: size of a file.
        max_pixels: width times height. Formats whose decoders need more than 8 bytes per pixel are allowed fewer pixels
            in proportion (PPM and progressive JPEG 4/5, AVIF 4/7, WebP a half, JPEG 2000 a third). The peak memory of
            decoding is therefore about 8 bytes times `max_pixels` for every format: 512 MB by default, besides the
            file itself.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        """Refuse limits below 1."""
        whole("max_bytes", self.max_bytes, 1)
        whole("max_pixels", self.max_pixels, 1)


DEFAULT_LIMITS = Limits()

Enough: TypeAlias = "Callable[[tuple[int, int]], tuple[int, int]]"
"""From the (height, width) of an upright image to the smallest size that suffices."""

_BUDGET = 8
"""Bytes per pixel: decoded RGB takes 4 in Pillow, and turning it upright takes 4 more."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that undoes it; 1 and unknown values need none."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


def read_file(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a regular file; never waits for a pipe or a device.

    Raises:
        MissingImageError: no such file, or a broken link.
        UnreadableImageError: a folder, pipe, socket or device; no permission; a disk error.
        EmptyImageError: zero bytes.
        TooLargeImageError: over `limits.max_bytes`; found before reading.
    """
    try:
        _check_status(os.stat(path), path, limits)  # noqa: PTH116 - before opening: opening alone can act on a device
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_status(status, path, limits)  # again: the path may have changed meanwhile
            return file.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise MissingImageError(f"{path}: no such file, or a link that leads nowhere") from error
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror or error}") from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(status: os.stat_result, path: str | os.PathLike[str], limits: Limits) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImageError(f"{path}: a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImageError(f"{path}: a pipe, socket or device, not a file")
    if status.st_size == 0:
        raise EmptyImageError(f"{path}: the file is empty")
    check_bytes(status.st_size, limits)


def check_bytes(size: int, limits: Limits) -> None:
    """Refuse a file or a member of so many bytes if that is over the limit, with TooLargeImageError."""
    if size > limits.max_bytes:
        raise TooLargeImageError(f"{size:,} bytes; the limit is {limits.max_bytes:,}")


def decode(
    data: bytes | bytearray | memoryview,
    limits: Limits = DEFAULT_LIMITS,
    enough: Enough | None = None,
    name: str = "",
) -> Image.Image:
    """The image in the bytes of an image file: mode RGB, 8 bits, upright. The module's docstring lists the conversions.

    Args:
        data: a whole file of one of `formats.FORMATS`.
        limits: limits of bytes and pixels, checked before a pixel is decoded.
        enough: the size that suffices. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that suffices: faster,
            with other pixels; `full_size` gives the size in the file. None: always the whole image.
        name: name of the file, for kinds of images that only their names tell (see `formats.check_name`).

    Raises:
        EmptyImageError, NotAnImageError, TruncatedImageError, CorruptImageError: no whole image in these bytes.
        UnsupportedImageError: a real image, but of a format or a kind of samples that is not read.
        TooLargeImageError: over a limit, or out of memory.
        UsageError: `ImageFile.LOAD_TRUNCATED_IMAGES` is set in this process.
    """
    check_bytes(memoryview(data).nbytes, limits)
    data = bytes(data)  # bytes are not copied
    if not data:
        raise EmptyImageError("zero bytes")
    kind = recognise(data, name)
    with _typed_errors(kind.name, lambda: kind.ends_early(data)), ExitStack() as held:
        return _decoded(kind, data, limits, enough, held)


def _decoded(kind: Format, data: bytes, limits: Limits, enough: Enough | None, held: ExitStack) -> Image.Image:
    """The memory budget is held in `held` until everything but the result is free."""
    with kind.open(data) as image:
        bytes_per_pixel = getattr(image, "bytes_per_pixel", kind.bytes_per_pixel)
        check_pixels(image.size, limits, bytes_per_pixel)
        check_directory(exif_of(image))
        kind.prepare(image, data)
        full = _reduce(image, enough) if enough else None
        held.enter_context(BUDGET.lend(image.width * image.height * bytes_per_pixel))
        rgb = _upright_rgb(image)
        if full:
            rgb.info[_REDUCED_FROM] = rgb.size, full
        return rgb


def full_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in the file, upright, of an image from `decode`; the own size of any other image."""
    reduced_to, full = image.info.get(_REDUCED_FROM, (None, None))
    return full if reduced_to == image.size else (image.height, image.width)


def is_reduced(image: Image.Image) -> bool:
    """Whether `decode` reduced the image."""
    return full_size(image) != (image.height, image.width)


_REDUCED_FROM = "weevit: reduced from"
"""Key of an image's `info`: its own size (Pillow copies `info` to crops) and the full size."""


def _reduce(image: Image.Image, enough: Enough) -> tuple[int, int] | None:
    """Let a JPEG be decoded smaller where that suffices; returns its full (height, width), upright, else None."""
    sideways = orientation(image) in _SIDEWAYS
    full = (image.width, image.height) if sideways else (image.height, image.width)
    height, width = enough(full)
    before = image.size
    image.draft(None, (height, width) if sideways else (width, height))
    return None if image.size == before else full


def to_rgb(image: Image.Image, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """An image that Pillow has opened or made, as mode RGB, upright.

    The given image is loaded but not changed; one that needs no conversion is returned itself.

    Raises:
        ImageError: as `decode`.
        UsageError: as `decode`.
    """
    if min(image.size) <= 0:
        raise UsageError(f"an image of {image.width} x {image.height} pixels is empty")
    with _typed_errors(image.format or "image"):
        check_pixels(image.size, limits)
        if image.format in ("JPEG", "MPO"):
            jpeg.check_opened(image)
        elif image.format == "PNG":
            png.check_opened(image)
        return _upright_rgb(image)


def from_array(array: npt.NDArray[np.uint8], limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """An RGB image from an array of pixels.

    Args:
        array: uint8, (H, W, 3) RGB, (H, W) grey or (H, W, 4) RGB and opacity (composited over white).
        limits: `max_pixels` is checked.

    Raises:
        UsageError: another dtype or shape.
        TooLargeImageError: too many pixels.
    """
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or array.size == 0:
        raise UsageError(
            f"an array of {array.dtype} with shape {array.shape} is not an image",
            "Give uint8 of shape (H, W, 3), (H, W) or (H, W, 4): list(array) of a batch, array.transpose(1, 2, 0) of "
            "channels first, (array * 255).round().astype('uint8') of floats in [0, 1].",
        )
    check_pixels((array.shape[1], array.shape[0]), limits)
    return to_rgb(Image.fromarray(array), limits)


def recognise(data: bytes, name: str = "") -> Format:
    """The format of a file, by its first bytes; `name` decides where they are ambiguous.

    Raises:
        NotAnImageError: no known format.
        UnsupportedImageError: a format that is not read.
    """
    for known, signature in KNOWN_BY_NAME_ONLY:
        if _has(data, signature):
            raise UnsupportedImageError(f"{known} files are not read", "Convert it to JPEG, PNG or WebP first.")
    kind = next((row for row in FORMATS if any(_has(data, signature) for signature in row.signatures)), None)
    check_name(name, kind)
    packed = next((what for what, signature in PACKED if kind is None and _has(data, signature)), "")
    if packed:
        raise NotAnImageError(f"an archive ({packed}): unpack it, and give the folder")
    if kind is None:
        raise NotAnImageError(f"the bytes are of no known image format (they begin with {data[:8]!r})")
    if kind.codec and not features.check(kind.codec):
        raise UnsupportedImageError(f"this Pillow was built without {kind.name}", "pip install --upgrade pillow")
    extra, module = kind.extra
    if extra and find_spec(module) is None:
        raise UnsupportedImageError(f"{kind.name} files are read with an extra: {install(extra)}")
    return kind


def _has(data: bytes, signature: Signature) -> bool:
    offset, magic = signature
    return data.startswith(magic, offset)


def check_pixels(size: tuple[int, int], limits: Limits, bytes_per_pixel: int = _BUDGET) -> None:
    """Refuse an image of (width, height) over the limit of pixels, with TooLargeImageError."""
    width, height = size
    allowed = limits.max_pixels * _BUDGET // max(_BUDGET, bytes_per_pixel)
    if width * height > allowed:
        raise TooLargeImageError(f"{width} x {height} pixels; the limit is {allowed:,} for a file of this kind")


@contextmanager
def _typed_errors(name: str, ends_early: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn every exception of Pillow into an ImageError, and refuse images that Pillow may have filled with grey."""
    try:
        _check_pillow_is_strict()
        yield
        _check_pillow_is_strict()
    except (WeevitError, FullError):
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeImageError(f"{name}: {error or 'more memory is needed than there is'}") from error
    except Exception as error:  # Pillow's readers raise about any type for a broken file
        reason = _reason(name, error)
        if "truncated" in reason.lower() or isinstance(error, EOFError) or ends_early():
            raise TruncatedImageError(reason) from error
        raise CorruptImageError(reason) from error


def _reason(name: str, error: Exception) -> str:
    """The message of an error of Pillow, on one line of at most 200 characters."""
    text = str(error) or type(error).__name__
    if text == "not identified by this driver":  # Pillow's message for a readable header
        text = "the header gives no width, no height or no known colours"
    return " ".join(f"{name}: {text}".split())[:200]


def _check_pillow_is_strict() -> None:
    # The setting holds for the whole process. Resetting it here would change other libraries' behaviour and race with
    # their threads, so no image is decoded.
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(
            "another library set PIL.ImageFile.LOAD_TRUNCATED_IMAGES = True: truncated images would pass, half grey",
            "Set it to False before images are read.",
        )


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to RGB; turned first, since most modes are smaller than RGB."""
    if image.mode == "La":  # Pillow has no conversion from this mode
        image.load()
        image = image.convert("LA")
    deep_grey = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode == "F" or (image.mode == "I" and not deep_grey):
        raise UnsupportedImageError(
            f"samples of Pillow's mode {image.mode!r} (32 bits) have no agreed range",
            "Scale them to 8 or 16 bits first.",
        )
    image.load()
    turn = _UPRIGHT.get(orientation(image))
    upright = image.transpose(turn) if turn is not None else image
    if deep_grey:
        rgb = _in_strips(upright, partial(_high_byte, tags=getattr(image, "tag_v2", {})))
    elif upright.has_transparency_data:
        rgb = _in_strips(upright, _over_white)
    else:
        rgb = upright if upright.mode == "RGB" else upright.convert("RGB")
    if rgb is not image:
        rgb.info = {}  # otherwise the orientation could be applied a second time
    return rgb


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert about a megapixel at a time, so that only the source and the result are held whole."""
    width, height = image.size
    rows = max(1, 2**20 // width)
    result = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        result.paste(convert(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return result


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 without one. Call after loading: Pillow turns a TIFF itself and drops the tag."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # cameras and editors write broken EXIF around whole images; browsers do not turn them either
        return 1


def exif_of(image: Image.Image) -> bytes:
    """The bytes that Pillow will parse as EXIF."""
    exif = image.info.get("exif")
    if exif is None and (text := image.info.get(_EXIF_AS_TEXT)):
        try:
            exif = bytes.fromhex("".join(str(text).split("\n")[3:]))
        except ValueError:
            return b""
    return exif if isinstance(exif, bytes) else b""


_EXIF_AS_TEXT = "Raw profile type exif"
"""Key of the text in which ImageMagick writes EXIF into a PNG."""


def _high_byte(image: Image.Image, tags: Mapping[int, object]) -> Image.Image:
    """Grey of 9 to 16 bits to 8; `tags` of a TIFF may give 12 bits, or zero as white."""
    bits = tags.get(_BITS_PER_SAMPLE)
    samples = np.asarray(image)
    grey = (samples >> ((bits[0] if isinstance(bits, tuple) else 16) - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[samples == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba)
    return white
