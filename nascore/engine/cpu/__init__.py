"""What only makes a CPU faster: nothing here changes what is computed. It imports torch alone."""
