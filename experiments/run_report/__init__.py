"""The comparison of training runs: reading, grouping, statistics, plots, the text."""
