"""`impasto-coordinator simulate`: a federation file carried out offline, in one process, on a folder of devices.

folders.py    which devices there are, and which of their pictures are held out
devices.py    a device: real training, its prompt code, its loss
run.py        the real rounds over all of them
results.py    what came of it, as JSON and as adapter files
console.py    what a person sees

Training needs torch, which a coordinator does without: everything here is imported by that command only.
"""
