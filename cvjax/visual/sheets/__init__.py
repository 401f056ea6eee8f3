"""Pages about data sets: samples, findings, and labels in doubt."""
