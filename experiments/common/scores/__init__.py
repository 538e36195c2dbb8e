"""Values per item: intervals, paired comparisons, results over seeds, and claims."""
