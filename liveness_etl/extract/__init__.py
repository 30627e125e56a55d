"""Everything before landing: manifest, plan, pace, calls, retries."""
