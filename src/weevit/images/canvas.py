"""An RGB image of Pillow whose memory another decoder fills: copying all pixels costs 5 % of decoding a JPEG.

Pillow gives the address of contiguous pixels, 4 bytes each, through the Arrow C data interface
(https://arrow.apache.org/docs/format/CDataInterface).
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
"""Writable memory."""


def pixels_of(image: Image.Image) -> Room | None:
    """Allocate the pixels of an RGB image and return their memory: R, G, B and an unused byte, row by row.

    Valid while the image lives and nothing else writes to it. None where Pillow does not give the address.
    """
    image.im = _new("RGB", image.size)
    try:
        capsule = image.im.__arrow_c_array__()  # the method of the image itself would decode first
    except ValueError:
        return None
    array = _Array.from_address(_pointer(capsule, b"arrow_array"))
    values = array.children[0].contents
    if array.length != image.width * image.height or values.length != 4 * array.length:
        return None
    memory: Room = (ctypes.c_ubyte * values.length).from_address(values.buffers[1])
    return memory


_new: Callable[[str, tuple[int, int]], Any] = getattr(_core, "new_block", _core.new)
"""Allocates contiguous pixels of any size; Pillow's default is contiguous up to 4 megapixels only."""
