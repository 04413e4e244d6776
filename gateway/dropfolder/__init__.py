"""A client's drop folder: one virtual file system for every protocol, and what counts as a receipt in it.

The home holds `inbox/` (what waits for the client), `archive/YYYY/MM/` (everything published in that month, for the
whole retention, and what its client had on the server before) and, while there are any, `documents/` (the kinds of
document that have no receipt). It exists in the database only: an *entry* is one published name, its bytes are a blob.
Nothing here knows a protocol; nothing here waits for a network.

paths.py     the one normaliser: bytes of the client in, a path inside its home out, or Refused
index.py     what a folder holds now, in memory, as fresh as one second; which entries may be listed yet
news.py      what a look at the database brings it; items.py: entries as it holds them
archive.py   the archive's months, while there is room; snapshots.py: what is listed, and its pages, made once
memory.py    the bound on all of it together
folders.py   DropFolders: every folder, behind one object
visit.py     Visit: one session's view of its folder, every call that a protocol makes for a client
stay.py      that a session began, what it was shown, that it ended
mapped.py    the same under the paths of the server before
areas.py     the seam for top-level folders whose files are no entries; a Visit hands their paths over
history.py   what a client had on the server before, in its archive: no entry, no number, no receipt
moving_in.py how it comes there
manifests.py what proves that nothing is missing: one signed list a day; manifest_area.py shows it
monthly.py   the same numbers as CSV, one file a month (monthly_csv.py), for programs that compare
sandbox.py   `sandbox/`: the client's own test area, where it writes; sandbox_rows.py: what is in it
sandbox_tests.py  the test documents that are made for it
intake.py    `intake/`: where an account of the billing system uploads, and all that it sees
uploads.py   a file that is being written: whole and closed, or discarded
content.py   the bytes of an entry, opened when they are whole
nodes.py     listings, and open files that remember what was read of them
entries.py   what a client does to names: remove, rename, mkdir, rmdir; what returns by itself
retention.py what leaves the inbox by itself, unread
receipts.py  what was read, and which facts make an entry, then its delivery, received
ranges.py    unions of byte ranges
host_keys.py which host keys its clients know
sessions.py  who may enter, and the row that says who was here

The rules
- An entry is listed from the second after its mtime on, whole, under its final name, and in the order of its
  mtime: whoever has seen mtime t has seen everything up to t. `Folder.last_mtime` is the least mtime that the next
  entry may get; an entry is visible once its own mtime is below it. Publishing never lowers it; the first look
  after the second is over raises it by one (index.py).
- A read at either place counts for the same delivery. An entry is *fully read* when the union of the ranges read,
  over all sessions, covers it and the handle closed cleanly. A handle that its connection left open is recorded,
  but its last range does not count: nobody knows whether it arrived.
- Facts are recorded whatever the receipt mode. The mode says which of them is the receipt, in either order:
    delete     fully read, and out of its place in the inbox: removed, renamed, or expired
    full_read  fully read
    api        acknowledged
    none       nothing; the inbox's retention ends it
  A delivery is received when every entry of it is.
- A removal always succeeds and takes the name out of the inbox. Before a full read it is *removed unread*: no
  receipt, an alert. A full read from the archive afterwards is then the receipt.
- A rename moves the name inside the home, never onto another, never into the archive, and is no receipt by
  itself. Not fully read in time, the entry returns under its own name, with an alert.
- What is not received within the inbox's retention leaves it, with an alert: its delivery is expired unread. The
  archive keeps the file.
- A received name can still be opened, looked at, renamed and removed, unlisted, for the linger time and until
  the session that opened it ends; then it is not there.
- A client writes into its `sandbox/` only: nothing there is a receipt, is run, or is read as settings. A file counts
  once every byte of it was written and the client closed it by the protocol's own word.
- Nothing a client does reaches the archive. What is not yours and what is not there get the same answer.
"""
