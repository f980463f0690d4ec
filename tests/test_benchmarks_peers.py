"""A stream is grown from mark to mark, and what it costs there is kept."""

import math

from benchmarks.peers import grow


def test_every_mark_has_its_row() -> None:
    watched: list[int] = []
    rows = grow(watched.append, [1, 30, 31], math.inf)
    assert watched == list(range(31))
    assert [row["frame"] for row in rows] == [1, 30, 31]
    assert all(row["frame_ms"] >= 0 for row in rows)


def test_growing_ends_before_memory_does() -> None:
    assert grow(lambda number: None, [1, 2], -1.0) == []
