"""The ladder that ships: models, manifest and card, written by `anytick models build`."""
