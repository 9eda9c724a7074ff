"""The parts of a block: dense layers, norms, the MLP, residual joins, positions, image patches.

`low_rank` adapts kernels of any parameter tree, `dropout` leaves context tokens out, `link` joins a
stream with the state of a tower.
"""
