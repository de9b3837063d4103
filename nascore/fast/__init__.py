"""What only makes a search faster: nothing here changes what is computed. Can be skipped."""
