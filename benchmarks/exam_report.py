"""What the exam found: tables for people, one JSON line for programs."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.exam_room import Answered
from benchmarks.report import show
from training.questions import FAMILIES, normalise

FAR_WINDOWS = 4
DISTANCES_S = (0, 5, 10, 20, 40, 80, 160, 320, 640)
LENGTHS = {"after a minute": (0.0, 120.0), "after an hour": (3000.0, math.inf)}


def accuracy(answered: Iterable[Answered]) -> float | None:
    """The share that is right; None of nothing."""
    marks = [a.right for a in answered]
    return sum(marks) / len(marks) if marks else None


def is_perception(a: Answered) -> bool:
    return a.family in FAMILIES["perception"]


def is_far_memory(a: Answered) -> bool:
    """Memory beyond four windows; the distinct count is reported apart."""
    return a.memory and a.windows > FAR_WINDOWS and a.family != "distinct"


def by(
    answered: Iterable[Answered], key: Callable[[Answered], Hashable]
) -> dict[Any, list[Answered]]:
    groups: dict[Any, list[Answered]] = defaultdict(list)
    for a in answered:
        groups[key(a)].append(a)
    return dict(sorted(groups.items(), key=lambda pair: str(pair[0])))


def majority(answered: Sequence[Answered]) -> float | None:
    """How often the most frequent answer of each family would be right."""
    best = 0
    for group in by(answered, lambda a: a.family).values():
        best += Counter(normalise(a.expected) for a in group).most_common(1)[0][1]
    return best / len(answered) if answered else None


def distance_bin(a: Answered) -> float:
    """The lower end, in seconds, of the distance's bin."""
    return max(d for d in DISTANCES_S if a.distance_s >= d)


def length_gap(answered: Sequence[Answered]) -> float | None:
    """How much less is right after an hour than after a minute, at equal family and distance."""
    lost, weights = 0.0, 0
    for group in by(answered, lambda a: (a.family, distance_bin(a))).values():
        parts = [[a for a in group if low <= a.at_s <= high] for low, high in LENGTHS.values()]
        early, late = map(accuracy, parts)
        if early is not None and late is not None:
            weight = min(map(len, parts))
            lost += weight * (early - late)
            weights += weight
    return lost / weights if weights else None


def headline(answered: Sequence[Answered]) -> dict[str, Any]:
    """The figures that the checkpoint is judged by, as fractions."""
    whole = [a for a in answered if a.mind == "whole" and a.room in ("main", "short", "hour")]
    perception = list(filter(is_perception, whole))
    far = list(filter(is_far_memory, whole))
    count = [a for a in whole if a.memory and a.family == "distinct" and a.windows > FAR_WINDOWS]
    yes = [a for a in whole if a.yes_no and a.expected.startswith("yes")]
    no = [a for a in whole if a.yes_no and not a.expected.startswith("yes")]
    return {
        "questions": len(whole),
        "perception": accuracy(perception),
        "perception_crowded": accuracy(a for a in perception if a.crowded),
        "perception_held_out": accuracy(a for a in perception if a.held_out),
        "memory": accuracy(far),
        "memory_near": accuracy(
            a for a in whole if a.memory and a.windows <= FAR_WINDOWS and a.family != "distinct"
        ),
        "distinct": accuracy(count),
        "yes": accuracy(yes),
        "no": accuracy(no),
        "memory_yes": accuracy(a for a in yes if a.memory and a.windows > FAR_WINDOWS),
        "memory_no": accuracy(a for a in no if a.memory and a.windows > FAR_WINDOWS),
        "majority_perception": majority(perception),
        "majority_memory": majority(far),
        "hour_loses": length_gap([a for a in answered if a.room == "hour"]),
    }


def ablations(answered: Sequence[Answered]) -> dict[str, Any]:
    """The same questions put to the whole mind and to one without its recurrent state.

    What is answered by nothing, no or zero need not be remembered, so it stands apart.
    """
    result: dict[str, Any] = {}
    for room in ("wiped", "window"):
        for mind, group in by((a for a in answered if a.room == room), lambda a: a.mind).items():
            memory = [a for a in group if a.memory and not a.yes_no]
            name = room if mind != "whole" else f"{room}_whole"
            result[name] = {
                "perception": accuracy(filter(is_perception, group)),
                "memory": accuracy(a for a in memory if not a.negative),
                "memory_negative": accuracy(a for a in memory if a.negative),
                "memory_yes": accuracy(
                    a for a in group if a.memory and a.yes_no and not a.negative
                ),
                "memory_no": accuracy(a for a in group if a.memory and a.yes_no and a.negative),
                "questions": len(group),
            }
    return result


def families(answered: Sequence[Answered]) -> dict[str, dict[str, Any]]:
    """Each family: how many, how many right, near and beyond four windows."""
    whole = [a for a in answered if a.mind == "whole" and a.room in ("main", "short", "hour")]
    found = {}
    for family, group in by(whole, lambda a: a.family).items():
        found[family] = {
            "questions": len(group),
            "all": accuracy(group),
            "far": accuracy(a for a in group if a.memory and a.windows > FAR_WINDOWS),
            "majority": majority(group),
        }
    return found


def distances(answered: Sequence[Answered]) -> dict[str, dict[str, Any]]:
    """Memory without yes or no, by frame rate and by how long ago."""
    memory = [
        a
        for a in answered
        if a.mind == "whole" and a.room in ("main", "hour", "distance") and a.memory
        if not a.yes_no and not a.negative and a.family != "distinct"
    ]
    return {
        f"{fps:g}": {
            f"{low:g}": [accuracy(group), len(group)]
            for low, group in sorted(by(of_rate, distance_bin).items(), key=lambda p: p[0])
        }
        for fps, of_rate in sorted(by(memory, lambda a: a.fps).items(), key=lambda p: p[0])
    }


def report(answered: Sequence[Answered], about: dict[str, Any]) -> None:
    """Print everything."""
    result: dict[str, Any] = {"benchmark": "exam", **about, **headline(answered)}
    result["families"] = families(answered)
    result["ablations"] = ablations(answered)
    result["distances"] = distances(answered)
    clips = [a for a in answered if a.room == "clips"]
    if clips:
        kinds = by(clips, lambda a: a.family)
        result["clips"] = {"questions": len(clips), "right": accuracy(clips)}
        result["clips"] |= {kind: [accuracy(g), len(g)] for kind, g in kinds.items()}
    console = Console(width=120, highlight=False)
    console.print(_families_table(result["families"]))
    for name in ("ablations", "distances", "clips"):
        if result.get(name):
            console.print(_table(name, result[name]))
    rows = [[name, percent(value)] for name, value in headline(answered).items()]
    show("The exam", ["", "right"], rows, result)


def percent(value: Any) -> str:
    """A fraction as a percentage; counts as they are."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if isinstance(value, float) else str(value)


def _families_table(found: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Families", title_justify="left")
    for column in ("family", "questions", "right", "beyond 4 windows", "best guess"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for family, row in found.items():
        table.add_row(family, *(percent(row[k]) for k in ("questions", "all", "far", "majority")))
    return table


def _table(name: str, found: dict[str, Any]) -> Table:
    table = Table(title=name.capitalize(), title_justify="left")
    table.add_column("")
    table.add_column("", overflow="fold")
    for key, value in found.items():
        if isinstance(value, dict):
            cells = ", ".join(f"{k}: {_cell(v)}" for k, v in value.items())
        else:
            cells = _cell(value)
        table.add_row(key, cells)
    return table


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"{percent(value[0])} of {value[1]}"
    return percent(value)
