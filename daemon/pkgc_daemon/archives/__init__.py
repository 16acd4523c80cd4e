"""Archives: strict reading of wheels, from verified bytes to files on disk with a Manifest.

`wheel.unpack_wheel` is the entrance.  Nothing here knows the store, the network or the event loop.
"""
