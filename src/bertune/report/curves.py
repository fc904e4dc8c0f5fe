"""Curves of a run from TensorBoard's records, read without TensorBoard's own loaders."""

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

Curve = list[tuple[int, float]]
"""Steps and values."""

_HEADER, _FOOTER = struct.Struct("<QI"), 4
MOST_POINTS = 500
"""Of a curve in a report; of longer ones points are left out at equal distances."""


def curves(logs: Path) -> dict[str, Curve]:
    """A run's curves by name; none where there are no records. Where a run was resumed, the later records count."""
    if not logs.is_dir():
        return {}
    from tensorboard.compat.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(logs.glob("events.out.tfevents.*")):
        for data in _records(path):
            event = Event.FromString(data)
            for value in event.summary.value:
                found[value.tag][event.step] = float(value.simple_value)
    return {name: _thinned(sorted(points.items())) for name, points in found.items()}


def _records(path: Path) -> Iterator[bytes]:
    """Records of a file up to its end, or to where a killed process cut it off."""
    content = path.read_bytes()
    at = 0
    while at + _HEADER.size <= len(content):
        length, _ = _HEADER.unpack_from(content, at)
        begin = at + _HEADER.size
        if begin + length + _FOOTER > len(content):
            return
        yield content[begin : begin + length]
        at = begin + length + _FOOTER


def _thinned(points: Curve) -> Curve:
    step = -(-len(points) // MOST_POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]
