"""The caller's side: calls to apps, sync and async, over the public protocol."""
