//! Looks offsets up.

use tidelog_client::Client;
use tidelog_client::admin::OffsetAt;
use tidelog_types::{Offset, TopicPartition};

use crate::Failure;

/// One offset of each partition, in their order.
///
/// # Errors
/// When one partition's leader does not tell.
pub(crate) async fn list(
    client: &Client,
    partitions: &[TopicPartition],
    at: OffsetAt,
) -> Result<Vec<Offset>, Failure> {
    let items = partitions.iter().map(|partition| (partition.clone(), at));
    let mut offsets = Vec::with_capacity(partitions.len());
    for (partition, listed) in client.admin().list_offsets(items).await {
        let listed = listed.map_err(|error| {
            Failure::from(error).at(|message| format!("offsets of {partition}: {message}"))
        })?;
        offsets.push(listed.offset);
    }
    Ok(offsets)
}
