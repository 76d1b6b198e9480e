//! What a broker reads beside its logs.

use std::io::IoSlice;
use std::path::Path;

use tidelog_broker::Identity;
use tidelog_log::disk::{Disk, Open};
use tidelog_log::sim::SimDisk;
use tidelog_types::BrokerId;

use crate::engine::Target;

pub(super) const IDENTITY: Target = Target {
    name: "identity",
    samples: || {
        let text =
            "format = 1\ncluster_id = \"6f1c\"\nbroker_id = 1\nincarnation = 2\nforming = true\n";
        vec![text.as_bytes().to_vec()]
    },
    run: |input| {
        let (disk, data) = (SimDisk::new(), Path::new("/"));
        let file = disk.open(&data.join("node.toml"), Open::Create).expect("an empty disk");
        file.write_at(&[IoSlice::new(input)], 0).expect("the disk is well");
        super::verdict(Identity::read(&disk, data, Some(BrokerId(1))), |identity| {
            let identity = identity.expect("the file is there");
            identity.write(&disk, data).expect("the disk is well");
            let again =
                Identity::read(&disk, data, Some(BrokerId(1))).expect("it was just written");
            assert_eq!(again, Some(identity));
            "ok".into()
        })
    },
    mend: None,
    allocates: (128 * 1024, 128),
};
