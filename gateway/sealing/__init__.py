"""The seal on originals, and the stamp on duplicates.

pades.py puts a seal into a PDF, verify.py checks one without trusting the code that wrote it, duplicate.py
makes the copy for a client without a subscription, process.py is what the worker processes run of all three.
seal.py, in the daemon, decides which document is sealed when, and stores the result.
"""
