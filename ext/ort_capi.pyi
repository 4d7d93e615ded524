from typing import final

import numpy as np
from numpy.typing import NDArray

from ext.signal_source import SignalSource

class OrtError(RuntimeError): ...

@final
class OrtLibrary:
    def __init__(self, path: str, version: str) -> None: ...
    @property
    def version(self) -> str: ...

@final
class OrtKernel(SignalSource):
    def __init__(
        self,
        library: OrtLibrary,
        model: bytes,
        *,
        input_name: str,
        output_name: str,
        row_shape: tuple[int, ...],
        output_width: int,
        batch_max: int = 1,
    ) -> None: ...
    @property
    def inputs(self) -> NDArray[np.float32]: ...
    @property
    def outputs(self) -> NDArray[np.float32]: ...
    @property
    def batch_max(self) -> int: ...
    @property
    def runs_late(self) -> int: ...
    @property
    def error(self) -> OrtError | None: ...
    def run(self, count: int = 1, *, deadline_ns: int = 0) -> bool: ...
