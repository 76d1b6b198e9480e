//! Record batches, Kafka format v2.
