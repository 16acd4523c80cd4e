"""The software version (the one place) and the protocol version."""

__version__ = "0.1.0"

#: Protocol (major, minor). Majors must agree; the intersection of the feature names counts.
PROTOCOL = (1, 0)
MAGIC = "pkgc"
#: Feature names of this side, in the order in which they came.
FEATURES = ("host-calls", "progress", "cancel", "stop", "status")
