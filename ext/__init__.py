"""anytick's compiled core: everything that runs per tick."""
