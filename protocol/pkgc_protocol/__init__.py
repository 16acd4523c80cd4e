"""pkgc_protocol: the wire. No I/O: bytes in, messages out (docs/protocol.md is the specification).

The client's start-up counts in every no-op sync, so these modules import nothing but msgpack.
"""

from .frames import FrameDecoder, encode
from .messages import LocalProtocolError, ProtocolError, RemoteProtocolError, validate
from .states import CLIENT, DAEMON, Conversation
from .version import FEATURES, MAGIC, PROTOCOL, __version__

__all__ = [
    "CLIENT",
    "DAEMON",
    "FEATURES",
    "MAGIC",
    "PROTOCOL",
    "Conversation",
    "FrameDecoder",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "__version__",
    "encode",
    "validate",
]
