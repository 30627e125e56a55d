"""When somebody has to be told of a run, and how: thresholds, drift, runs that were killed or never came; sending."""
