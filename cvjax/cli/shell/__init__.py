"""What lies between the shell and every command: names, help, refusals, experiments and completion."""
