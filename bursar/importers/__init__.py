"""Other people's logs as rows of the ledger: transcripts, exports of the providers, message lists.

Each importer reads one file and says what it found in it; `bursar.tracing.imports` writes it down, once.
"""
