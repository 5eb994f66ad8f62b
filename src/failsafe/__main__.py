"""`python -m failsafe` is the command `failsafe`."""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # Python puts the working directory first on the import path, where any file could stand for a library.
    del sys.path[0]

from failsafe.cli import main

if __name__ == "__main__":
    main()
