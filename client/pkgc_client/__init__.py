"""pkgc_client: connect or start the daemon, forward the command, be its eyes and hands."""
