"""Remember: records into the ledger file, and back out of it."""
