"""The durable outbox: which deliveries a document gets, and how each one moves on.

plan.py decides the deliveries of a sealed document; publish.py puts folder deliveries into drop folders;
outbox.py claims mail deliveries and writes what became of each attempt; attempt.py makes one attempt;
breaker.py spares the others while the relay is in trouble; retry.py says when the next is due; orders.py is what
operators ask for; dry_run.py lets nothing leave to a client.
"""
