"""This folder decides how long a run goes on and how fast it learns where neither is a number of steps.

`patience.py` ends a run whose scores no longer rise, `budget.py` makes the learning rate follow a time budget, and
`pace.py` is what the loop asks about both. `batch_search.py` finds the largest batch that fits, and `rate_range.py`
sweeps the learning rate before a run.
"""
