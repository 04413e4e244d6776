"""Rows and bytes: database.py (transactions), blobs.py and s3.py (bytes by digest), state.py (whose state directory it is)."""
