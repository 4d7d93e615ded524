from typing import final

from ext.routing import Router

@final
class PythonRouter(Router):
    def __init__(self, policy: object) -> None: ...
    @property
    def error(self) -> Exception | None: ...
