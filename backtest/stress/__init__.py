"""Load on a serving ladder: virtual users, schedules, hogs, a killed worker, and a verdict."""
