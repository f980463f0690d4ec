"""What every benchmark prints: a table for people, then one JSON object on the last line."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from ui.json_lines import to_json


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    facts: dict[str, Any] = {
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu_cores": os.cpu_count(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "load_1min": round(psutil.getloadavg()[0], 2),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def commit() -> str:
    """The checkout's commit, with a + if files differ from it; 'unknown' outside of git."""
    root = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def show(title: str, header: list[str], rows: list[list[str]], result: dict[str, Any]) -> None:
    """Print the table and the machine, then `result` with the machine as one line of JSON."""
    where = machine()
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(header):
        table.add_column(column, justify="right" if n else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=120, highlight=False)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in where.items()), style="dim")
    print(json.dumps(to_json(result) | {"machine": where}), flush=True)


def quantile(values: list[float], q: float) -> float | None:
    """The smallest value that a share `q` of all does not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


def in_ms(seconds: float | None) -> float | None:
    """Milliseconds with two digits after the point."""
    return None if seconds is None else round(seconds * 1e3, 2)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
