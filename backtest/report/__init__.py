"""Pages and files made from results: self-contained HTML and stable JSON.

What a result holds is fixed in ``backtest/result.py``; nothing here computes a statistic that a
result does not already carry, except what a picture needs (running means, drawdowns, bins).
"""

from __future__ import annotations

from .backtest_report import write_backtest_report
from .json_result import json_value, read_json, write_json
from .run_report import write_run_report

__all__ = ["json_value", "read_json", "write_backtest_report", "write_json", "write_run_report"]
