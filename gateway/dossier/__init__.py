"""What is known of one document, put together from the ledger and the rows of every step; it changes nothing.

explain.py tells a document's life in words; sentences.py is the table from each event to its sentence.
"""
