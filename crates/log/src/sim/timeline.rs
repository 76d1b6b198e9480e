//! What was done to a disk, and what of it survives when the power goes.

use super::image::{Image, Inode};

/// An operation that changed a disk, or should have made a change durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes were written.
    Write {
        /// To this file.
        file: Inode,
        /// From here on.
        position: u64,
        /// These.
        bytes: Vec<u8>,
    },
    /// A file was cut or extended.
    SetLen {
        /// This one.
        file: Inode,
        /// To this length.
        bytes: u64,
    },
    /// A file was made.
    CreateFile {
        /// In this directory.
        dir: Inode,
        /// Under this name.
        name: String,
        /// The file.
        file: Inode,
    },
    /// A directory was made.
    CreateDir {
        /// In this directory.
        dir: Inode,
        /// Under this name.
        name: String,
        /// The directory.
        made: Inode,
    },
    /// Something got another name.
    Rename {
        /// The directory that it was in.
        from: Inode,
        /// Its name there.
        from_name: String,
        /// The directory that it is in.
        to: Inode,
        /// Its name there.
        to_name: String,
        /// What it is.
        inode: Inode,
    },
    /// A name was removed.
    Unlink {
        /// From this directory.
        dir: Inode,
        /// This name.
        name: String,
    },
    /// A file or directory was synced.
    Sync {
        /// This one.
        inode: Inode,
    },
    /// Nothing happened to the disk: a mark of whoever records.
    Note(u64),
}

impl Op {
    /// Whether a sync of `inode` makes this operation durable.
    fn is_of(&self, inode: Inode) -> bool {
        match self {
            Self::Write { file, .. } | Self::SetLen { file, .. } => *file == inode,
            Self::CreateFile { dir, .. }
            | Self::CreateDir { dir, .. }
            | Self::Unlink { dir, .. } => *dir == inode,
            // Durable with the directory that it went to, the one that a caller syncs.
            Self::Rename { to, .. } => *to == inode,
            Self::Sync { .. } | Self::Note(_) => false,
        }
    }
}

/// What a power cut does to the operations that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// All are lost.
    LoseAll,
    /// None is lost.
    KeepAll,
    /// The n-th, oldest first, is lost.
    LoseOne(usize),
    /// Only the n-th survives.
    KeepOne(usize),
    /// The n-th, a write, keeps only its first bytes.
    Tear {
        /// Which.
        nth: usize,
        /// How many bytes of it survive.
        keep: usize,
    },
    /// The n-th, a write, loses 512 bytes from `at` on: a file system writes sectors in any order.
    Hole {
        /// Which.
        nth: usize,
        /// Where the hole begins in it.
        at: usize,
    },
    /// Each is lost, torn or kept, as dice with this seed say.
    Random(u64),
}

/// The bytes of a sector: the least that a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// A disk's durable contents, and the operations since that are not.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    durable: Image,
    unsynced: Vec<Op>,
}

impl Timeline {
    /// A disk with these contents, all durable.
    #[must_use]
    pub const fn new(durable: Image) -> Self {
        Self { durable, unsynced: Vec::new() }
    }

    /// Goes on by one operation.
    pub fn step(&mut self, op: &Op) {
        match op {
            Op::Sync { inode } => {
                let durable = &mut self.durable;
                self.unsynced.retain(|op| {
                    let synced = op.is_of(*inode);
                    if synced {
                        durable.apply(op);
                    }
                    !synced
                });
            }
            Op::Note(_) => {}
            op => {
                // The bytes of a file and the names in a directory can become durable before its
                // own name does.
                self.durable.ensure(op);
                self.unsynced.push(op.clone());
            }
        }
    }

    /// A sync of `inode` that failed: what it should have made durable never will be, though the
    /// page cache shows it and the next sync succeeds.
    pub(super) fn forsake(&mut self, inode: Inode) {
        self.unsynced.retain(|op| !op.is_of(inode));
    }

    /// The operations that are not durable, oldest first.
    #[must_use]
    pub fn unsynced(&self) -> &[Op] {
        &self.unsynced
    }

    /// What is durable.
    pub(super) const fn durable(&self) -> &Image {
        &self.durable
    }

    /// The durable contents, to damage them.
    pub(super) const fn durable_mut(&mut self) -> &mut Image {
        &mut self.durable
    }

    /// What the disk holds after a power cut.
    #[must_use]
    pub fn crash(&self, plan: CrashPlan) -> Image {
        let mut image = self.durable.clone();
        let mut dice = Dice(match plan {
            CrashPlan::Random(seed) => seed,
            _ => 0,
        });
        for (n, op) in self.unsynced.iter().enumerate() {
            match plan {
                CrashPlan::LoseAll => {}
                CrashPlan::KeepAll => image.apply(op),
                CrashPlan::LoseOne(nth) if n == nth => {}
                CrashPlan::KeepOne(nth) if n != nth => {}
                CrashPlan::Tear { nth, keep } if n == nth => tear(&mut image, op, keep),
                CrashPlan::Hole { nth, at } if n == nth => hole(&mut image, op, at),
                CrashPlan::Random(_) => match (dice.roll(4), op) {
                    (0, _) => {}
                    (1, Op::Write { bytes, .. }) => {
                        tear(&mut image, op, dice.roll(bytes.len() as u64 + 1) as usize);
                    }
                    (2, Op::Write { bytes, .. }) => {
                        hole(&mut image, op, dice.roll(bytes.len() as u64 + 1) as usize);
                    }
                    _ => image.apply(op),
                },
                CrashPlan::LoseOne(_)
                | CrashPlan::KeepOne(_)
                | CrashPlan::Tear { .. }
                | CrashPlan::Hole { .. } => image.apply(op),
            }
        }
        image
    }
}

fn tear(image: &mut Image, op: &Op, keep: usize) {
    if let Op::Write { file, position, bytes } = op {
        let bytes = bytes[..keep.min(bytes.len())].to_vec();
        image.apply(&Op::Write { file: *file, position: *position, bytes });
    }
}

fn hole(image: &mut Image, op: &Op, at: usize) {
    if let Op::Write { file, position, bytes } = op {
        tear(image, op, at);
        let behind = (at + SECTOR_BYTES).min(bytes.len());
        if behind < bytes.len() {
            let bytes = bytes[behind..].to_vec();
            image.apply(&Op::Write { file: *file, position: position + behind as u64, bytes });
        }
    }
}

/// Dice that fall the same way for the same seed (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
