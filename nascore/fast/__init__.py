"""What only makes a CPU faster: nothing here changes what is computed. Can be skipped."""
