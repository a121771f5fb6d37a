//! Rewrites of the graph, one file each: folding, sinking, recognising, fusing, planning.
