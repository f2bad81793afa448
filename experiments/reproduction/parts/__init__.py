"""The tables and figures, one a file."""
