//! Ids of consumer groups and of their members.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest id of a group, member, instance or client in bytes.
pub const GROUP_ID_BYTES_MAX: usize = 255;

macro_rules! group_texts {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the rule.
            ///
            /// # Errors
            /// [`InvalidGroupText`] says which part of the rule is broken.
            pub fn new(text: &str) -> Result<Self, InvalidGroupText> {
                check($what, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidGroupText;

            fn from_str(text: &str) -> Result<Self, InvalidGroupText> {
                Self::new(text)
            }
        }
    )*};
}

group_texts! {
    /// The id of a consumer group: 1 to 255 bytes without control characters. Cheap to clone.
    ///
    /// Not to be taken for [`crate::GroupId`], which names a Raft group.
    GroupName, "group id";
    /// The id of a member, chosen at random by itself; the rule is that of [`GroupName`].
    MemberId, "member id";
    /// What stays the same about a static member over its restarts; the rule is that of [`GroupName`].
    InstanceId, "instance id";
}

/// Why the id of a group, a member or an instance is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidGroupText {
    /// It has no character.
    Empty {
        /// Which id.
        what: &'static str,
    },
    /// It is longer than [`GROUP_ID_BYTES_MAX`].
    TooLong {
        /// Which id.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// It holds a control character.
    Control {
        /// Which id.
        what: &'static str,
        /// The first such character.
        character: char,
    },
}

impl fmt::Display for InvalidGroupText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { what } => write!(f, "{what} is empty"),
            Self::TooLong { what, bytes } => {
                write!(f, "{what} has {bytes} bytes, at most {GROUP_ID_BYTES_MAX} are allowed")
            }
            Self::Control { what, character } => {
                write!(f, "{what} holds the control character {character:?}")
            }
        }
    }
}

impl std::error::Error for InvalidGroupText {}

fn check(what: &'static str, text: &str) -> Result<(), InvalidGroupText> {
    if text.is_empty() {
        return Err(InvalidGroupText::Empty { what });
    }
    if text.len() > GROUP_ID_BYTES_MAX {
        return Err(InvalidGroupText::TooLong { what, bytes: text.len() });
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(InvalidGroupText::Control { what, character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_ids_are_bounded_and_printable() {
        let long = "x".repeat(256);
        let what = "group id";
        let refused: [(&str, InvalidGroupText); 3] = [
            ("", InvalidGroupText::Empty { what }),
            ("a\nb", InvalidGroupText::Control { what, character: '\n' }),
            (&long, InvalidGroupText::TooLong { what, bytes: 256 }),
        ];
        for (name, reason) in refused {
            assert_eq!(GroupName::new(name), Err(reason));
        }
        for name in ["billing", "a b/ü", &long[..255]] {
            assert_eq!(GroupName::new(name).map(|name| name.to_string()).as_deref(), Ok(name));
        }
    }
}
