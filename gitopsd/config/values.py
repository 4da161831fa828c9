"""Durations and sizes as they stand in the configuration ↔ seconds and bytes."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def seconds(text: str | None, otherwise: float) -> float:
    """`90s` → 90.0; `otherwise` where it is not set. The schema has seen to its form."""
    if text is None:
        return otherwise
    number, unit = re.fullmatch(r"([0-9]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * _SECONDS[unit]


def duration(sec: float) -> str:
    """Seconds as a duration of the configuration."""
    return f"{int(sec)}s" if sec == int(sec) else f"{round(sec * 1000)}ms"


def size(text: str | float) -> int:
    """`25M` → 26214400."""
    if not isinstance(text, str):
        return int(text)  # a number of the form 1.0 is whole, too
    digits = text.rstrip("KMG")
    return int(digits) * _BYTES[text[len(digits) :]]
