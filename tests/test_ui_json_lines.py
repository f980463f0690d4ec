"""Events and reports as lines of JSON that any parser reads."""

import json
import math
from typing import Any

from stream.events import DropReason, FrameDone, FrameDropped, SourceCondition, SourceState
from tests.test_ui_words import done, report
from ui.json_lines import event_line, report_line, to_json


def strict(line: str) -> dict[str, Any]:
    """Parse a line as JSON without Python's own additions to it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert "\n" not in line
    parsed = json.loads(line, parse_constant=refuse)
    assert isinstance(parsed, dict)
    return parsed


def test_event_is_its_fields_and_its_type() -> None:
    """Every field under its own name, enums as their words."""
    assert strict(event_line(FrameDropped("s", 4, None, 0.16, DropReason.PACED))) == {
        "type": "FrameDropped",
        "stream": "s",
        "seq": 4,
        "tick": None,
        "pts_s": 0.16,
        "reason": "paced",
        "count": 1,
    }
    state = strict(event_line(SourceState("s", SourceCondition.ENDED, "over", 1.0)))
    assert state["condition"] == "ended"


def test_nested_stages_are_an_object() -> None:
    """A frame's stages stay together by name."""
    event = FrameDone("s", 0, 0, 0.0, None, 1.0, 1.1, {"decode": 0.5, "wait": math.nan})
    assert strict(event_line(event))["stages_s"] == {"decode": 0.5, "wait": None}


def test_any_text_stays_on_one_line() -> None:
    """Line ends and control characters are escaped, other scripts are not."""
    line = event_line(done(answer='a\n"b"\x1b[2J 猫'))
    assert strict(line)["answer"] == 'a\n"b"\x1b[2J 猫'
    assert "猫" in line and "\x1b" not in line


def test_infinite_latency_is_null() -> None:
    """JSON has no infinity: a dropped frame's latency is null, in lists and objects too."""
    parsed = strict(report_line("Summary", report(), verdict="fine"))
    assert parsed["latency_p99_s"] is None
    assert parsed["stage_s"]["decode"] == [0.001, 0.002]
    assert (parsed["type"], parsed["holds"], parsed["verdict"]) == ("Summary", True, "fine")
    assert to_json({"a": [math.inf, (-math.inf, 1.5)]}) == {"a": [None, [None, 1.5]]}
