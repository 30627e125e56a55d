"""Everything that reads the tables."""
