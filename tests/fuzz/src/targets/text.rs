//! Names and ids as text.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tidelog_types::{GroupId, GroupName, InstanceId, MemberId, TopicId, TopicName};

use crate::engine::Target;

pub(super) const NAMES: Target = Target {
    name: "names",
    samples: || {
        let topic = TopicId(0xabcd_0000_0000_4000_8000_0000_0000_0001).to_string();
        let names = ["orders", "__consumer_groups", "a.b_c-d", "größe"].map(str::to_owned);
        names.into_iter().chain([format!("{topic}-3"), topic]).map(String::into_bytes).collect()
    },
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let all = [
            parse::<TopicName>(&text),
            parse::<GroupName>(&text),
            parse::<MemberId>(&text),
            parse::<InstanceId>(&text),
            parse::<TopicId>(&text),
            parse::<GroupId>(&text),
        ];
        all.join(", ")
    },
    mend: None,
    allocates: (8192, 64),
};

/// Parses; what came prints as something that parses to the same.
fn parse<T>(text: &str) -> String
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    super::verdict(text.parse::<T>(), |name| {
        let again = name.to_string().parse::<T>().unwrap_or_else(|err| panic!("{name}: {err}"));
        assert_eq!(again, name);
        "ok".into()
    })
}
