"""pkgc_daemon: the brain. One folder per stage, in the order in which data passes."""
