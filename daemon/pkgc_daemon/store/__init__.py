"""The store: verified artifacts, unpacked trees, index pages and what is known of them; one writer.

What is published in which order, and what is on the disk for certain when (design.md 8, "Durability"):

=====================  ==================================================  ================================
what                   order of publication                                synced
=====================  ==================================================  ================================
artifact               chmod 0444; sidecar renamed into place; file        no: row says boot id, synced=0
                       renamed into place; memory; catalog row
alias (other digest)   after the artifact's file is in place, verified     with the catalog
tree                   unpacked in ``tmp/``; manifest written beside it;   no: row says boot id, synced=0
                       folder renamed into place; memory; catalog row
bytecode               compiled in ``tmp/``; manifest written beside it;   no: a marker says boot id
                       marker; folder renamed into place; memory
index page             written in ``tmp/``, renamed over the old one       never: losing one is no error
origin, source of a    catalog row; artifact's sidecar renamed             with the catalog
built wheel
interpreter, file      catalog only                                        with the catalog
name, last use, URL,
build, request
git repository         by git, under its lock; the store only removes it   never: losing one is no error
catalog                SQLite, WAL, synchronous=NORMAL: whole after a      at WAL checkpoints
                       crash, may lack the last commits
=====================  ==================================================  ================================

`Store.checkpoint` (idle daemon) and `Store.close` make everything certain: one ``syncfs`` of the cache's
filesystem, then the rows are marked synced.  A cold sync therefore pays for no fsync at all.  After kill -9
the page cache is intact, and an unsynced row of the same boot counts.  After another boot, an artifact or
tree whose row is not marked synced is *suspect*: it is not served before a full re-hash found it whole.
The same goes for files that have no row (killed between rename and commit; catalog lost or corrupt): they
are adopted at the next start from their sidecars, as suspects.  Bytecode has no rows: while its marker names
another boot, all of it is removed at start, and made again.  Temporary folders are swept at start.
"""
