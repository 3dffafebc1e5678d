"""IO without our domain: clock, loops, processes, logs."""
