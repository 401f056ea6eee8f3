"""One file an experiment: a typed configuration, and a few lines that say model + task + data -> train."""
