"""What is known of one document or one folder, put together from the ledger and the rows of every step; it changes
nothing.

explain.py tells a document's life in words; sentences.py is the table from each event to its sentence.
manifest_chain.py verifies a folder's signed manifests offline; manifest_file.py reads one of them, month_file.py a list
of a month.
"""
