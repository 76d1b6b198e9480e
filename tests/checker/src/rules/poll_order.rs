//! P6: an assignment, which is one grant of a partition to a member, sees the records from the committed
//! offset on, in order, without skip or repeat, and nothing once it is given up.

use std::collections::HashMap;

use crate::history::{Entry, Fact, Granted, History, Member, Slot};
use crate::verdict::{Docket, Rule};

/// Where an assignment stands.
#[derive(Clone, Copy, Debug)]
enum Stand {
    /// Its first record may be anywhere: nothing was committed, the start policy decides.
    Anywhere,
    /// Its next record.
    At(u64),
    /// It was given up.
    GivenUp,
}

#[derive(Debug, Default)]
struct Assignments {
    stands: HashMap<(Member, Slot, u32), Stand>,
    newest: HashMap<(Member, Slot), u32>,
}

pub(crate) fn check(history: &History, docket: &mut Docket<'_>) {
    let mut assignments = Assignments::default();
    for entry in history.entries() {
        match entry.fact {
            Fact::Assigned { member, grants, .. } => {
                history.grants(grants).iter().for_each(|grant| assignments.tell(member, grant));
            }
            Fact::Released { member, grants } => {
                for grant in history.grants(grants) {
                    let key = (member, grant.slot, grant.granted);
                    assignments.stands.insert(key, Stand::GivenUp);
                }
            }
            Fact::Repositioned { member, slot, offset } => {
                assignments.reposition(member, slot, offset);
            }
            Fact::Delivered { member, slot, offset, granted, .. } => {
                if let Err(wrong) = assignments.deliver(member, slot, offset, granted) {
                    blame(history, docket, entry, &wrong);
                }
            }
            _ => {}
        }
    }
}

impl Assignments {
    /// Only the first telling of a grant says where it begins; later ones tell how far it has come.
    fn tell(&mut self, member: Member, grant: &Granted) {
        let begin = grant.committed.map_or(Stand::Anywhere, Stand::At);
        self.stands.entry((member, grant.slot, grant.granted)).or_insert(begin);
        let newest = self.newest.entry((member, grant.slot)).or_insert(grant.granted);
        *newest = grant.granted.max(*newest);
    }

    fn reposition(&mut self, member: Member, slot: Slot, offset: u64) {
        if let Some(granted) = self.newest.get(&(member, slot)) {
            self.stands.insert((member, slot, *granted), Stand::At(offset));
        }
    }

    fn deliver(
        &mut self,
        member: Member,
        slot: Slot,
        offset: u64,
        granted: Option<u32>,
    ) -> Result<(), String> {
        let granted = granted.or_else(|| self.newest.get(&(member, slot)).copied());
        let stand = granted.and_then(|granted| self.stands.get_mut(&(member, slot, granted)));
        let Some(stand) = stand else {
            return Err("which was never assigned to it".to_owned());
        };
        let was = *stand;
        if !matches!(was, Stand::GivenUp) {
            // One fault is told once: the next record is compared with this one.
            *stand = Stand::At(offset + 1);
        }
        match was {
            Stand::Anywhere => Ok(()),
            Stand::At(expected) if expected == offset => Ok(()),
            Stand::At(expected) if expected < offset => Err(format!("{expected} was skipped")),
            Stand::At(expected) => Err(format!("{expected} was expected")),
            Stand::GivenUp => Err("which it had given up".to_owned()),
        }
    }
}

fn blame(history: &History, docket: &mut Docket<'_>, entry: &Entry, wrong: &str) {
    let Fact::Delivered { member, slot, offset, .. } = entry.fact else {
        unreachable!("only deliveries are blamed")
    };
    docket.blame(Rule::PollOrder, entry.place, || {
        let (member, slot) = (history.member_name(member), history.slot_name(slot));
        format!("{member} got {slot}@{offset}, {wrong}")
    });
}
