"""Bytes that are not rows: blobs and logs."""
