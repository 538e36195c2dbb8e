"""From texts to numbers: parsing, metrics, intervals, comparisons, and the claims."""
