"""Events as JSON, one object a line, for programs that read the terminal's output."""

import json
import math
from dataclasses import asdict, is_dataclass
from typing import Any

from stream.events import Event
from stream.monitor import MonitorReport


def event_line(event: Event) -> str:
    """An event as one line: its fields, and `type`, its name."""
    return json.dumps({"type": type(event).__name__} | to_json(event), ensure_ascii=False)


def report_line(kind: str, report: MonitorReport, **more: Any) -> str:
    """The monitor's count as one line of type `kind`, with further fields."""
    body = to_json(report) | {"holds": report.holds} | more
    return json.dumps({"type": kind} | body, ensure_ascii=False)


def to_json(value: Any) -> Any:
    """Dataclasses to objects; JSON has no infinity, so a dropped frame's latency is null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
