"""What is wrong with a config, its data or its input, found before a run."""
