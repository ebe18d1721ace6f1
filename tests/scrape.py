"""What ``/metrics`` says."""

from __future__ import annotations


def samples(text: str) -> dict[str, float]:
    """Values by name and labels, as printed."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, _, value in lines}
    assert len(found) == len(lines), "a sample is there twice"
    return found
