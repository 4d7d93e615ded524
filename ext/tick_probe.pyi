import numpy as np
from numpy.typing import NDArray

from ext.histogram import Histogram
from ext.ring_buffer import SpscRing

def publish_on_schedule(
    ring: SpscRing, events: NDArray[np.void], interval_ns: int, lead_ns: int = 20_000_000
) -> int: ...
def receive(ring: SpscRing, waited: Histogram) -> None: ...
