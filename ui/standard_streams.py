"""What a program is started with: something to read from and to print to, or nothing at all."""

import os
import sys


def open_missing_streams() -> None:
    """Give a program that was started without input or output (`<&-`) empty ones."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the program


def drop_output() -> None:
    """Whatever else is printed, also at exit, shall find a place to go: nobody can take it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
