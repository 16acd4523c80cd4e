"""`python -m pkgc_daemon`: run the daemon in the foreground."""

import sys

from .serving.run import main

sys.exit(main(sys.argv[1:]))
