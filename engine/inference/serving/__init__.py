"""Serving a ladder of models under deadlines: a pure scheduler, and the processes that it runs in."""
