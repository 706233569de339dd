//! Checks of keys, encodings and signatures against recorded vectors.
