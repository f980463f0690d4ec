"""What `ps` shows of a program while it runs."""

import subprocess
import time

import psutil


def watch_titles(run: "subprocess.Popen[str]", secret: str) -> tuple[set[str], int]:
    """The titles of a program and its children until it ends, and how many there were at once.

    Those from before it hid the secret that was on its command line do not count; that may take
    0.3 s of its own time, for a busy machine gives it little.
    """
    titles, most = set[str](), 0
    process = psutil.Process(run.pid)
    # There is none for a moment while a process becomes the program.
    while not (words := process.cmdline()) or any(secret in word for word in words):
        assert sum(process.cpu_times()[:2]) < 0.3, "a secret is in its title for long"
        time.sleep(0.005)
    while run.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            most = max(most, len(family))
            titles |= {" ".join(part.cmdline()) for part in family}
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.02)
    return titles, most
