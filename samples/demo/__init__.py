"""`make demo`: a federation of devices on one machine, with a report."""
