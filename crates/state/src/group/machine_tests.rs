//! A group over one topic, in a few steps; the scripts have the rest.
