"""`python -m failsafe` is the command `failsafe`."""

from failsafe.cli import main

if __name__ == "__main__":
    main()
