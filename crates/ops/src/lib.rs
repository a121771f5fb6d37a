//! Composite operators, one file each, written as their maths.
