"""How documents come in: read under limits (process, read, attachments, facturx), what a sidecar adds (sidecar, facts),
kept (receive), accepted exactly once (accept), set aside (quarantine), taken from a folder (spool).

Everything that comes in here is hostile until it was read. What is refused is refused with a code and a reason.
"""
