"""The seal on originals, and the stamp on duplicates.

pades.py puts a seal into a PDF, verify.py checks one without trusting the code that wrote it, validate.py asks
pyHanko's validator, duplicate.py makes the marked copy for a client without a subscription, trial.py its test document
(mark.py: what every page of both says); document.py reads what they need to know of a PDF. process.py is what the
worker processes run of all that. In the daemon, seal.py decides which document is sealed when, and renditions.py hands
out the bytes that a client may see.
"""
