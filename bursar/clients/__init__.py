"""Attach to SDKs: translate their wire format to our words, and our decisions to their way of stopping."""
