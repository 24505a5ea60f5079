"""What a run lives in: Ray, placement, waits with deadlines, signals, processes that end."""
