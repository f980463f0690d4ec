"""What people look at: the terminal's status line, answers and summary."""
