"""Rows and bytes.

database.py: transactions; pulse.py, hints.py: whether a PostgreSQL answers, what its gateways tell each other;
migrations/: the schema; blobs.py, s3.py: bytes by their digest; state.py: the state directory, and which process may
write.
"""
