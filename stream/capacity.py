"""How many streams a device can watch, from how long its steps take."""

from collections.abc import Sequence

from stream.monitor import MonitorReport

# A step must leave this share of a period to answers and to what else there is.
SHARE = 0.9
# Of a frame's stages, those that work for it; that two cores may do so at once is not counted on.
STEP_STAGES = ("preprocess", "vision", "decoder")


def capacity(frames_s: dict[int, float], fps: float) -> int:
    """The most streams of so many frames a second whose steps, one or several, fit a period.

    Args:
        frames_s: seconds of a step by how many streams it serves.
    """
    return max((n * int(SHARE / (fps * step_s)) for n, step_s in frames_s.items()), default=0)


def check_capacity(frames_s: dict[int, float], streams: int, fps: float) -> None:
    """Raise ValueError, with what was measured, if so many streams are too many."""
    if not frames_s:
        return
    most = capacity(frames_s, fps)
    if streams > most:
        served = next((n for n in sorted(frames_s) if n >= streams), max(frames_s))
        raise ValueError(
            f"{streams} streams at {fps:g} frames a second are too many for this device: a step of "
            f"{served} takes {1e3 * frames_s[served]:.1f} ms of {1e3 / fps:g}; "
            f"it holds {most}; watch fewer, or at a lower rate"
        )


def rate_left(frames_s: dict[int, float], reports: Sequence[MonitorReport], fps: float) -> float:
    """How many frames a second one more stream may have beside those of `reports`, at most `fps`.

    A stream that sends nothing just now may begin to at any moment. Where steps have not been
    measured, it is told by how long frames take just now.

    Args:
        reports: of the streams that have not ended.
    """
    if frames_s:
        return fps if len(reports) < capacity(frames_s, fps) else 0.0
    steps_s = [
        sum(report.stage_s.get(stage, (0.0, 0.0))[0] for stage in STEP_STAGES) for report in reports
    ]
    longest_s = max(steps_s, default=0.0)
    if not longest_s:
        return fps
    taken = sum(
        max(report.recent_fps, report.target_fps or 0.0) * (step_s or longest_s)
        for report, step_s in zip(reports, steps_s, strict=True)
    )
    return max(0.0, min(fps, (SHARE - taken) / longest_s))
