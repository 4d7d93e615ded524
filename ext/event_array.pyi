from typing import Any

import numpy as np

EVENT_DTYPE: np.dtype[Any]
