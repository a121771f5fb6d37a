//! Graph × chip → estimated record.
