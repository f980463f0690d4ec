"""Whether a stream keeps up, in words that are the same wherever they are read."""

import math

from stream.monitor import MonitorReport


def percent(ratio: float | None) -> str:
    """'98.9 %', rounded down: what was missed by a little is not shown as met."""
    return "-" if ratio is None else f"{math.floor(1000 * ratio + 1e-9) / 10:.1f} %"


def verdict(report: MonitorReport) -> str:
    """Whether the target rate was held, in one sentence."""
    if report.processed == 0:
        return "No frame was processed."
    if report.target_fps is None:
        return f"No target rate: {report.fps:.1f} frames a second were processed."
    held = "HELD" if report.holds else "NOT HELD"
    window = ""
    if report.worst_window is not None:
        window = f", {percent(report.worst_window)} in the worst 10 s"
    sentence = (
        f"{report.target_fps:g} FPS {held}: {percent(report.on_time_ratio)} of "
        f"{report.due} due frames on time{window}."
    )
    if report.starved:
        sentence += f" The source had no frame at {report.starved} ticks."
    return sentence
