"""What a run leaves behind: its directory, files and printed lines."""
