"""Commands about data: a look at them, a check of them, and labels in doubt."""
