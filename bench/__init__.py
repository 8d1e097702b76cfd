"""Speed, measured and printed, never asserted: `make bench`. Ratios of one run on one machine are what counts."""
