"""."""

import os

# ONNX Runtime 1.29 and newer reports to its makers, from a thread and a database of its own in every process
# that opens it. It reads this once, when it is opened; whoever wants the reports sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
