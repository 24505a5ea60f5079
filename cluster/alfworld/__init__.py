"""Commands around ALFWorld: its data, generated scenes."""
