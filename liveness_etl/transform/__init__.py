"""Pure shapes: an API answer, the tables, and the way from one to the other."""
