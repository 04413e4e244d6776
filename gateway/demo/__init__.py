"""The demo: a certificate authority, sample documents, a mailbox server, and the story of one day's invoices.

It runs the real daemon on loopback with throw-away state; nothing here is used in production.
"""
