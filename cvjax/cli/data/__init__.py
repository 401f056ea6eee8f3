"""Commands about data: a look at them, a check of them, labels in doubt, and conversion."""
