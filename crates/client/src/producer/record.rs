//! Records on their way in, and what is known of them once they are written.

use bytes::Bytes;
use tidelog_types::batch::{Header, HeaderName};
use tidelog_types::{InvalidTopicName, Offset, PartitionId, Timestamp, TopicName};

/// A record to write.
///
/// Key and value are bytes that are shared, not copied, until they go into a batch.
#[derive(Clone, Debug)]
pub struct Record {
    pub(super) topic: Result<TopicName, InvalidTopicName>,
    pub(super) partition: Option<PartitionId>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    pub(super) timestamp: Option<Timestamp>,
}

impl Record {
    /// A record for `topic` without key, value and headers. A name that breaks the rule is told when
    /// the record is sent. A [`TopicName`] that is kept saves a copy and a check per record.
    pub fn to(topic: impl IntoTopicName) -> Self {
        Self {
            topic: topic.into_topic_name(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// Sets the key. Records of one key go to one partition and stay in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value. Without one the record is a tombstone.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Takes the value away.
    #[must_use]
    pub fn tombstone(mut self) -> Self {
        self.value = None;
        self
    }

    /// Adds a header. Names may repeat.
    #[must_use]
    pub fn header(mut self, name: impl Into<HeaderName>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { name: name.into(), value: Some(value.into()) });
        self
    }

    /// Adds a header whose value is null.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<HeaderName>) -> Self {
        self.headers.push(Header { name: name.into(), value: None });
        self
    }

    /// Chooses the partition, instead of leaving it to the key.
    #[must_use]
    pub fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets when the record was made. Default: when it is sent.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// What the record takes of the buffer: its bytes, and a bound on what the format adds.
    pub(super) fn buffer_bytes(&self) -> usize {
        const RECORD_OVERHEAD: usize = 32;
        const HEADER_OVERHEAD: usize = 10;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self
            .headers
            .iter()
            .map(|header| header.name.as_str().len() + length(&header.value) + HEADER_OVERHEAD);
        length(&self.key) + length(&self.value) + headers.sum::<usize>() + RECORD_OVERHEAD
    }
}

/// What names a topic.
pub trait IntoTopicName {
    /// The name, checked.
    ///
    /// # Errors
    /// When it breaks the rule.
    fn into_topic_name(self) -> Result<TopicName, InvalidTopicName>;
}

impl IntoTopicName for TopicName {
    fn into_topic_name(self) -> Result<TopicName, InvalidTopicName> {
        Ok(self)
    }
}

impl IntoTopicName for &TopicName {
    fn into_topic_name(self) -> Result<TopicName, InvalidTopicName> {
        Ok(self.clone())
    }
}

impl IntoTopicName for &str {
    fn into_topic_name(self) -> Result<TopicName, InvalidTopicName> {
        TopicName::new(self)
    }
}

impl IntoTopicName for &String {
    fn into_topic_name(self) -> Result<TopicName, InvalidTopicName> {
        TopicName::new(self)
    }
}

impl IntoTopicName for String {
    fn into_topic_name(self) -> Result<TopicName, InvalidTopicName> {
        TopicName::new(&self)
    }
}

/// Where a written record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When the leader appended it.
    pub append_time: Timestamp,
}
