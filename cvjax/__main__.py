"""`python -m cvjax` is the command `cvjax`."""

from cvjax.cli.main import main

if __name__ == "__main__":
    main()
