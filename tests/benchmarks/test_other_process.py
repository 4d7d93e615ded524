"""A second process of a measurement: the terminal's interrupt is not for it, and it never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from benchmarks.other_process import other_process

if __name__ == "__main__":
    try:
        with other_process(time.sleep, 600) as process:
            status = Path(f"/proc/{process.pid}/status").read_text()
            blocked = int(status.split("SigBlk:")[1].split()[0], 16)
            print(process.pid, bool(blocked >> (signal.SIGINT - 1) & 1), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_an_interrupt_of_the_whole_group_is_ours_alone(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    child, is_deaf = process.stdout.readline().split()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, is_deaf, errors) == (130, "True", "")
    assert not Path(f"/proc/{child}").exists()
