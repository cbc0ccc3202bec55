"""The life of a call: what is decided, and in which order."""
