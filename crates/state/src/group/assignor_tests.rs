//! The assignor against its promises.
