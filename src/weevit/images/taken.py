"""When a camera took an image, by the EXIF tags that it writes at that moment.

The time is that of the camera's clock, to the second; newer cameras add fractions, and how far their clock is ahead of
UTC. A time that is no date, as of a camera whose clock was never set (`0000:00:00 00:00:00`), is none.
(Exif 2.32, CIPA DC-008-2019, sections 4.6.5 F and G.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from weevit.errors import ImageError
from weevit.images.exif import read_directory, without_name

_EXIF_DIRECTORY, _TIME, _OFFSET, _FRACTION = 0x8769, 0x9003, 0x9011, 0x9291

_OFFSETS = re.compile(r"([+-])(\d\d):([0-5]\d)")
_FURTHEST = 14 * 60
"""Minutes: the clock of Kiribati."""


@dataclass(frozen=True)
class Taken:
    """A moment.

    Attributes:
        clock: seconds on the camera's clock, since 1970 began on it.
        ahead: minutes that the clock is ahead of UTC; None where the camera does not say.
    """

    clock: float
    ahead: int | None = None

    def apart(self, other: Taken) -> float:
        """Seconds between two moments; by the clocks alone where one camera does not say how far its own is ahead."""
        if self.ahead is None or other.ahead is None:
            return abs(self.clock - other.clock)
        return abs(self.clock - other.clock - 60 * (self.ahead - other.ahead))

    def differs(self, other: Taken) -> bool:
        """Whether these are two moments: not where one has fractions of its second, and the other has none."""
        apart = self.apart(other)
        return apart >= 1 or (apart > 1e-6 and bool(self.clock % 1) and bool(other.clock % 1))

    def __str__(self) -> str:
        """`2026-11-28 09:25:01.250+01:00`."""
        zone = None if self.ahead is None else timezone(timedelta(minutes=self.ahead))
        clock = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock)).replace(tzinfo=zone)
        return clock.isoformat(" ", "milliseconds" if clock.microsecond else "seconds")


def taken_in(exif: bytes) -> Taken | None:
    """The moment in EXIF data (with or without `Exif` before it) or in a TIFF file; None where there is none."""
    data = without_name(exif)
    if len(data) <= 8:
        return None
    try:
        (at,) = read_directory(data).integers(data, _EXIF_DIRECTORY) or (0,)
        if not at:
            return None
        own = read_directory(data, at)
    except ImageError:
        return None
    clock = _clock(own.text(data, _TIME), own.text(data, _FRACTION))
    return None if clock is None else Taken(clock, _ahead(own.text(data, _OFFSET)))


def _clock(text: str, fraction: str) -> float | None:
    try:
        moment = datetime.strptime(text.strip(), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    digits = fraction.strip()
    return moment.timestamp() + (float(f"0.{digits}") if digits.isdigit() and len(digits) <= 9 else 0.0)


def _ahead(text: str) -> int | None:
    found = _OFFSETS.fullmatch(text.strip())
    if not found:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return None if minutes > _FURTHEST else minutes * (-1 if found[1] == "-" else 1)
