"""What things cost, measured against what they are compared with: `make bench`. See README.md here."""
