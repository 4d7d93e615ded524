from typing import Any

import numpy as np

ORDER_DTYPE: np.dtype[Any]
REPORT_DTYPE: np.dtype[Any]
