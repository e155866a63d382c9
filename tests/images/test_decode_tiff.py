"""TIFF layouts: pixels computed by hand for each; what is read must be right, and the rest `unsupported`."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from textures import texture

from weevit.errors import CorruptImageError, TruncatedImageError, UnsupportedImageError
from weevit.images.decode import decode

Ints = npt.NDArray[Any]

H, W = 17, 23
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
GREY_0_WHITE, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
RAW, DEFLATE = 1, 8
FORMATS = {3: "H", 4: "I", 5: "II"}


def tiff(order: str, tags: dict[int, tuple[int, list[Any]]], parts: list[bytes], tiled: bool = False) -> bytes:
    """One directory behind the parts."""
    body, places = b"", []
    for part in parts:
        places.append(8 + len(body))
        body += part + b"\0" * (len(part) % 2)
    tags = tags | {324 if tiled else 273: (4, places), 325 if tiled else 279: (4, [len(part) for part in parts])}
    start = 8 + len(body)
    entries, values, after = b"", b"", start + 2 + 12 * len(tags) + 4
    for number, (kind, given) in sorted(tags.items()):
        packed = b"".join(
            struct.pack(order + FORMATS[kind], *(value if isinstance(value, tuple) else (value,))) for value in given
        )
        inside = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", after + len(values))
        values += packed + b"\0" * (len(packed) % 2) if len(packed) > 4 else b""
        entries += struct.pack(order + "HHI", number, kind, len(given)) + inside
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + body + struct.pack(order + "H", len(tags)) + entries + b"\0" * 4 + values


def tags(
    bits: int, samples: int, meaning: int, packed: int, planes: int = 1, fill: int = 1, form: int = 1, **more: Any
) -> dict[int, tuple[int, list[Any]]]:
    found: dict[int, tuple[int, list[Any]]] = {
        256: (4, [W]), 257: (4, [H]), 258: (3, [bits] * samples), 259: (3, [packed]), 262: (3, [meaning]),
        266: (3, [fill]), 277: (3, [samples]), 278: (4, [H]), 284: (3, [planes]), 339: (3, [form] * samples),
    }  # fmt: skip
    return found | {number: (3, value) for number, value in more.get("also", {}).items()}


def stored(samples: Ints, bits: int, order: str) -> bytes:
    """Rows of samples, each row from a byte of its own."""
    if bits >= 8 and bits != 12:
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    ones = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def packed_as(packed: int, data: bytes) -> bytes:
    return zlib.compress(data) if packed == DEFLATE else data


def to_8(samples: Ints, bits: int) -> Ints:
    return samples >> (bits - 8) if bits > 8 else np.rint(samples * 255 / ((1 << bits) - 1)).astype(int)


def outcome(data: bytes) -> Any:
    try:
        return np.asarray(decode(data)).astype(int)
    except UnsupportedImageError:
        return None


def smooth(bits: int, count: int) -> Ints:
    steps = np.add.outer(np.arange(H) * 3, np.arange(W) * 2)[..., None] + np.arange(count) * 40
    return steps % 256 * ((1 << bits) - 1) // 255


@pytest.mark.parametrize("meaning", [GREY_0_WHITE, GREY, PALETTE])
@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_one_sample(bits: int, fill: int, meaning: int) -> None:
    if meaning == PALETTE and bits > 8:
        return
    samples = np.random.default_rng(0).integers(0, 1 << bits, (H, W))
    palette = np.random.default_rng(1).integers(0, 65536, (3, 1 << min(bits, 8)))
    grey = to_8(samples, bits)
    expected = np.repeat((255 - grey if meaning == GREY_0_WHITE else grey)[..., None], 3, 2)
    also = {}
    if meaning == PALETTE:
        also, expected = {320: palette.ravel().tolist()}, palette[:, samples].transpose(1, 2, 0) >> 8
    read = 0
    for order, packed in itertools.product("<>", (RAW, DEFLATE)):
        data = packed_as(packed, stored(samples, bits, order))
        data = data.translate(REVERSED) if fill == 2 else data
        found = outcome(tiff(order, tags(bits, 1, meaning, packed, fill=fill, also=also), [data]))
        assert found is None or np.array_equal(found, expected), (order, packed)
        read += found is not None
    assert read or bits in (12, 16)


SAMPLES = {
    "rgb": (RGB, 3, None),
    "rgb, opacity": (RGB, 4, 2),
    "rgb, opacity multiplied": (RGB, 4, 1),
    "rgb and another": (RGB, 4, 0),
    "grey, opacity": (GREY, 2, 2),
    "grey, opacity multiplied": (GREY, 2, 1),
    "cmyk": (CMYK, 4, None),
}
READ_IN_PLANES = {
    (8, RAW): {"rgb", "rgb, opacity", "cmyk"},
    (8, DEFLATE): {"rgb", "rgb, opacity", "rgb, opacity multiplied", "rgb and another", "cmyk"},
    (16, DEFLATE): {"rgb", "rgb, opacity", "rgb, opacity multiplied", "rgb and another", "cmyk"},
}
"""(bits, compression) -> what Pillow reads right where the samples of a pixel lie apart."""


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", SAMPLES)
def test_many_samples(name: str, bits: int, planes: int, tiled: bool) -> None:
    meaning, count, extra = SAMPLES[name]
    samples = smooth(bits, count)
    if extra == 1:
        samples[..., :-1] = samples[..., :-1] * samples[..., -1:] // ((1 << bits) - 1)
    expected = by_hand(to_8(samples, bits), meaning, extra)
    for order, packed in itertools.product("<>", (RAW, DEFLATE)):
        layout = tags(bits, count, meaning, packed, planes, also={} if extra is None else {338: [extra]})
        if tiled:
            layout |= {322: (4, [32]), 323: (4, [32])}
            del layout[278]
        padded = np.pad(samples, ((0, 32 - H), (0, 32 - W), (0, 0))) if tiled else samples
        parts = [padded] if planes == 1 else [padded[..., plane : plane + 1] for plane in range(count)]
        data = tiff(order, layout, [packed_as(packed, stored(part, bits, order)) for part in parts], tiled)
        found = outcome(data)
        if found is not None:
            assert np.abs(found - expected).max() <= (2 if extra else 0), (order, packed)
        readable = planes == 1 or name in READ_IN_PLANES.get((bits, packed), set())
        if bits == 8 or name.startswith("rgb"):
            assert (found is not None) == readable, (order, packed)


def by_hand(samples: Ints, meaning: int, extra: int | None) -> Ints:
    if meaning == CMYK:
        image = Image.frombytes("CMYK", (W, H), samples.astype(np.uint8).tobytes())
        return np.asarray(image.convert("RGB")).astype(int)
    colours = samples[..., :3] if meaning == RGB else np.repeat(samples[..., :1], 3, 2)
    if not extra:
        return colours
    opacity = samples[..., -1:] / 255
    return (colours if extra == 1 else colours * opacity) + 255 * (1 - opacity)


@pytest.mark.parametrize("packed", [RAW, DEFLATE])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("step", [(1, 1), (2, 1), (2, 2)])
def test_ycbcr(step: tuple[int, int], planes: int, packed: int) -> None:
    across, down = step
    rng = np.random.default_rng(2)
    height, width = -(-H // down), -(-W // across)
    luma = rng.integers(60, 190, (height * down, width * across))
    blue, red = rng.integers(90, 160, (2, height, width))
    full = np.dstack([luma, *(np.kron(part, np.ones((down, across), int)) for part in (blue, red))])[:H, :W]
    expected = np.asarray(Image.frombytes("YCbCr", (W, H), full.astype(np.uint8).tobytes()).convert("RGB")).astype(int)
    if planes == 2:
        parts = [part.astype(np.uint8).tobytes() for part in (luma, blue, red)]
    else:
        units = [
            bytes(luma[y * down : (y + 1) * down, x * across : (x + 1) * across].ravel().tolist())
            + bytes([blue[y, x], red[y, x]])
            for y, x in itertools.product(range(height), range(width))
        ]
        parts = [b"".join(units)]
    layout = tags(8, 3, YCBCR, packed, planes, also={530: [across, down]})
    layout[532] = (5, [(0, 1), (255, 1), (128, 1), (255, 1), (128, 1), (255, 1)])
    found = outcome(tiff("<", layout, [packed_as(packed, part) for part in parts]))
    assert found is None or np.abs(found - expected).max() <= 3
    assert (found is not None) == (
        (packed, planes) == (DEFLATE, 1) or (step == (1, 1) and (planes == 1 or packed != RAW))
    )


def test_lab_is_read_with_its_samples_together_only() -> None:
    y, x = np.mgrid[:H, :W]
    samples = np.dstack([100 + y * 4, (x * 2 - 16) % 256, (y * 2 - 16) % 256])
    for packed in (RAW, DEFLATE):
        whole = tiff("<", tags(8, 3, LAB, packed), [packed_as(packed, stored(samples, 8, "<"))])
        found = outcome(whole)
        assert found[0, 8].tolist() == pytest.approx(found[0, 8].tolist())
        assert np.abs(np.diff(found[:, 8].astype(int), axis=0)).max() < 12  # as smooth as the samples
        apart = [packed_as(packed, stored(samples[..., plane : plane + 1], 8, "<")) for plane in range(3)]
        assert outcome(tiff("<", tags(8, 3, LAB, packed, 2), apart)) is None


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("bits", "form"), [(8, 2), (16, 2), (16, 3), (32, 1), (32, 2), (32, 3)])
def test_signed_floating_point_and_32_bits_are_unsupported(bits: int, form: int, count: int) -> None:
    meaning = GREY if count == 1 else RGB
    for packed in (RAW, DEFLATE):
        data = tiff(
            "<", tags(bits, count, meaning, packed, form=form), [packed_as(packed, bytes(H * W * count * bits // 8))]
        )
        assert outcome(data) is None


@pytest.mark.parametrize("count", [5, 7, 12])
def test_many_bands_are_unsupported(count: int) -> None:
    """Satellites and microscopes write them; which three are to be seen is not known."""
    data = tiff("<", tags(16, count, GREY, RAW), [bytes(H * W * count * 2)])
    with pytest.raises(UnsupportedImageError, match=f"{count} samples of 16 bits") as caught:
        decode(data)
    assert "RGB" in caught.value.hint


def saved(**options: Any) -> bytes:
    stream = io.BytesIO()
    texture(300, 200, 3).save(stream, "TIFF", **options)
    return stream.getvalue()


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "jpeg", "tiff_lzw"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_parts_are_found(compression: str) -> None:
    data = saved(compression=compression)
    assert decode(data).size == (300, 200)
    for place in range(2000, len(data) - 6000, 3001):
        with pytest.raises((CorruptImageError, TruncatedImageError)):
            decode(data[:place] + bytes(1500) + data[place + 1500 :])


def test_a_sum_is_checked_where_libtiff_stops_before_it() -> None:
    part = bytearray(zlib.compress(bytes(smooth(8, 1).astype(np.uint8).ravel().tolist())))
    part[-1] ^= 1
    with pytest.raises(CorruptImageError, match="incorrect data check"):
        decode(tiff("<", tags(8, 1, GREY, DEFLATE), [bytes(part)]))
