"""Training of the ladder's models; the only code that needs torch, the `[train]` extra."""
