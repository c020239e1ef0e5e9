"""`python -m mmbench` is `mmbench`."""

import sys

from mmbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
