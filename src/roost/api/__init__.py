"""The control plane over HTTP, thin: reads and writes the store, decides nothing."""
