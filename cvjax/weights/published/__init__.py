"""Published weights: those that have a name here and are fetched, and all others that are known to fit."""

from cvjax.weights.published.names import DEFAULTS, HUB, PUBLISHED, Published

__all__ = ["DEFAULTS", "HUB", "PUBLISHED", "Published"]
