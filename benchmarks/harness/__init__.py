"""What the subjects share: servers that end, load, figures, tables."""
