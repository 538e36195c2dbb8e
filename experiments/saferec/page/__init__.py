"""What the page of SafeRec has beside the sections that all experiments share."""
