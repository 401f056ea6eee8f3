"""The command `cvjax study`: it lists the studies of the field's claims, runs one with its own flags, or many."""
