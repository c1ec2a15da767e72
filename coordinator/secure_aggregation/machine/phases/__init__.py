"""The phases of a masked sum that wait for devices, a file each: what a phase takes in, and how it ends."""
