from typing import final

@final
class BookMemory:
    def __new__(cls) -> BookMemory: ...
