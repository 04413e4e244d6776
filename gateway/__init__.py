"""An issuer's documents in, sealed once; out to each client's drop folder and mailboxes, with proof.

The journey of one invoice, and where to read it (ARCHITECTURE.md has the map):

    web/api/submissions.py, intake/spool.py   the doors
    intake/receive.py, accept.py              read in a worker, accept exactly once
    sealing/seal.py                           seal and verify in a worker, plan the deliveries
    delivery/publish.py, delivery/attempt.py  into the drop folder, and to the relay
    dropfolder/, servers/                     what clients do with it, and which fact is a receipt
    dossier/explain.py                        the life of a document in words

Start with domain/ for the words, then daemon.py for the parts.
"""

__version__ = "0.1.0"
