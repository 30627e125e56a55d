"""Everything that writes: images, landing, tables."""
