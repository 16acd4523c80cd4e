"""pkgc_protocol: the wire. No I/O: bytes in, messages out (docs/protocol.md is the specification).

The client's start-up counts in every no-op sync: importing the package loads almost nothing, its names load
their modules when they are asked for, and msgpack is loaded when a frame needs it.
"""

from .version import FEATURES, MAGIC, PROTOCOL, __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import FrameDecoder, encode
    from .messages import LocalProtocolError, ProtocolError, RemoteProtocolError, validate
    from .states import CLIENT, DAEMON, Conversation

_WHERE = {
    "CLIENT": "states",
    "Conversation": "states",
    "DAEMON": "states",
    "FrameDecoder": "frames",
    "LocalProtocolError": "messages",
    "ProtocolError": "messages",
    "RemoteProtocolError": "messages",
    "encode": "frames",
    "validate": "messages",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_WHERE[name]}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


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
