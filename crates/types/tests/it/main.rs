//! Record batches against random input, golden bytes and another implementation.

mod batches;
