"""Scripts in a process of their own, which may be left without memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_alone(script: str) -> str:
    """Run a script and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
