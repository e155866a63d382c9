"""An RGB image of Pillow's whose memory another decoder may fill: a copy of all pixels costs 5 % of decoding a JPEG.

Pillow tells where its pixels lie by the Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface),
4 bytes each, where they lie in one piece.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

from PIL import Image
from PIL import _imaging as _core


class _Array(ctypes.Structure):
    """`struct ArrowArray`."""


_Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    *((name, ctypes.c_void_p) for name in ("dictionary", "release", "private_data")),
]

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


Room: TypeAlias = "ctypes.Array[ctypes.c_ubyte]"
"""Bytes that may be written to."""


def pixels_of(image: Image.Image) -> Room | None:
    """The memory of an RGB image that has none yet, to write to: R, G, B and a byte without meaning, row by row.

    It may be used while the image lasts and nobody else writes to it. None where Pillow cannot say where it lies.
    """
    image.im = _new("RGB", image.size)
    try:
        capsule = image.im.__arrow_c_array__()  # of the image itself it would decode first
    except ValueError:
        return None
    array = _Array.from_address(_pointer(capsule, b"arrow_array"))
    values = array.children[0].contents
    if array.length != image.width * image.height or values.length != 4 * array.length:
        return None
    memory: Room = (ctypes.c_ubyte * values.length).from_address(values.buffers[1])
    return memory


_new: Callable[[str, tuple[int, int]], Any] = getattr(_core, "new_block", _core.new)
"""In one piece, however large; what Pillow makes otherwise is so up to 4 megapixels."""
