"""Personal data: found by Presidio's recognizers in worker processes, masked on the way out, put back on the way in."""
