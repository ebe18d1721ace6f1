"""The rooms of the service in order, lowest first, as in docs/architecture.md: a room imports only lower ones."""

from __future__ import annotations

#: Rooms that stand beside each other do not import each other.
ORDER: tuple[frozenset[str], ...] = (
    frozenset({"config", "errors", "logs", "metrics"}),
    frozenset({"host"}),
    frozenset({"image"}),
    frozenset({"model"}),
    frozenset({"runtimes"}),
    frozenset({"store", "engine"}),
    frozenset({"serving"}),
    frozenset({"bulk", "http"}),
    frozenset({"processes"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)

LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
