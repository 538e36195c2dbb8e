"""Published data on memory leaks: readers, conversations, labels and judges."""
