"""Throughput and latency of the hot paths, each beside the least a machine must do for the work."""
