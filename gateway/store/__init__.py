"""Rows and bytes.

database.py: transactions; migrations/: the schema; blobs.py, s3.py: bytes by their digest; state.py: the state
directory, and which process may write.
"""
