"""`python -m pkgc_client`: the same as the `pkgc` script."""

from .hot import main

main()
