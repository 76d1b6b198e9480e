//! When the leader of a coordinator last heard of each member. Not in the log: a heartbeat that changes
//! nothing costs no write, and a new leader gives every member a whole session.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidelog_types::{GroupId, GroupName, MemberId, Term};
use tokio::time::Instant;

/// Signs of life, of all coordinators that this broker leads.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<GroupId, Session>>);

/// Signs of life under one leadership.
#[derive(Debug)]
struct Session {
    term: Term,
    since: Instant,
    /// The metadata here is at least as new as it was when the leadership began.
    caught_up: bool,
    /// All members have been looked at since the leadership began: one that is new has joined since.
    looked: bool,
    heard: BTreeMap<(GroupName, MemberId), Instant>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Session>> {
        // Each change is a single insertion: a panic between two of them spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A coordinator is led here since now, unless it was under this term already. Tells whether the
    /// leadership is new.
    pub(crate) fn lead(&self, coordinator: GroupId, term: Term) -> bool {
        let mut sessions = self.lock();
        if sessions.get(&coordinator).is_some_and(|session| session.term == term) {
            return false;
        }
        let (since, heard) = (Instant::now(), BTreeMap::new());
        sessions
            .insert(coordinator, Session { term, since, caught_up: false, looked: false, heard });
        true
    }

    /// The metadata has caught up since the leadership began.
    pub(crate) fn catch_up(&self, coordinator: GroupId, term: Term) {
        let mut sessions = self.lock();
        if let Some(session) = sessions.get_mut(&coordinator).filter(|held| held.term == term) {
            session.caught_up = true;
        }
    }

    /// Whether the metadata has caught up since the leadership began.
    pub(crate) fn has_caught_up(&self, coordinator: GroupId, term: Term) -> bool {
        let sessions = self.lock();
        sessions.get(&coordinator).is_some_and(|held| held.term == term && held.caught_up)
    }

    /// Every member gets a whole session from now on: this process stood still, and their signs of life
    /// may wait to be read.
    pub(crate) fn begin_anew(&self) {
        for session in self.lock().values_mut() {
            session.since = Instant::now();
            session.looked = false;
            session.heard.clear();
        }
    }

    /// Only these coordinators are led here.
    pub(crate) fn keep(&self, led: impl Fn(&GroupId) -> bool) {
        self.lock().retain(|coordinator, _| led(coordinator));
    }

    /// A member is alive.
    pub(crate) fn hear(
        &self,
        coordinator: GroupId,
        term: Term,
        group: &GroupName,
        member: &MemberId,
    ) {
        self.lead(coordinator, term);
        if let Some(session) = self.lock().get_mut(&coordinator) {
            session.heard.insert((group.clone(), member.clone()), Instant::now());
        }
    }

    /// For how long a member has been silent: at most since the leadership began. One that joined since
    /// counts from when it is first looked at, in case it was heard before its join was applied, and was
    /// forgotten meanwhile as one that is no member.
    pub(crate) fn silence(
        &self,
        coordinator: GroupId,
        group: &GroupName,
        member: &MemberId,
    ) -> Duration {
        let mut sessions = self.lock();
        let Some(session) = sessions.get_mut(&coordinator) else { return Duration::ZERO };
        let first = if session.looked { Instant::now() } else { session.since };
        let heard = session.heard.entry((group.clone(), member.clone()));
        heard.or_insert(first).elapsed()
    }

    /// Forgets members of a coordinator that are gone, after all were looked at.
    pub(crate) fn retain(
        &self,
        coordinator: GroupId,
        here: impl Fn(&GroupName, &MemberId) -> bool,
    ) {
        if let Some(session) = self.lock().get_mut(&coordinator) {
            session.looked = true;
            session.heard.retain(|(group, member), _| here(group, member));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_types::{PartitionId, TopicId};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_new_leadership_gives_every_member_a_whole_session() {
        let sessions = Sessions::default();
        let coordinator = GroupId::new(TopicId::CONSUMER_GROUPS, PartitionId(3));
        let (group, member) = (GroupName::new("g").unwrap(), MemberId::new("m").unwrap());
        sessions.hear(coordinator, Term(1), &group, &member);
        tokio::time::advance(SECOND).await;
        assert_eq!(sessions.silence(coordinator, &group, &member), SECOND);
        assert!(!sessions.lead(coordinator, Term(1)));
        assert_eq!(sessions.silence(coordinator, &group, &member), SECOND);

        assert!(sessions.lead(coordinator, Term(2)));
        assert_eq!(sessions.silence(coordinator, &group, &member), Duration::ZERO);
        tokio::time::advance(SECOND).await;
        assert_eq!(sessions.silence(coordinator, &group, &member), SECOND);
        sessions.hear(coordinator, Term(2), &group, &member);
        assert_eq!(sessions.silence(coordinator, &group, &member), Duration::ZERO);
    }

    /// It is heard before its join is applied, and looked for in between.
    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_joining_is_not_taken_for_one_that_is_gone() {
        let sessions = Sessions::default();
        let coordinator = GroupId::new(TopicId::CONSUMER_GROUPS, PartitionId(3));
        let (group, member) = (GroupName::new("g").unwrap(), MemberId::new("m").unwrap());
        let old = MemberId::new("old").unwrap();
        sessions.lead(coordinator, Term(1));
        assert_eq!(sessions.silence(coordinator, &group, &old), Duration::ZERO);
        sessions.retain(coordinator, |_, known| *known == old);
        tokio::time::advance(SECOND * 20).await;
        sessions.hear(coordinator, Term(1), &group, &member);
        sessions.retain(coordinator, |_, known| *known == old);
        assert_eq!(sessions.silence(coordinator, &group, &member), Duration::ZERO);
        tokio::time::advance(SECOND).await;
        assert_eq!(sessions.silence(coordinator, &group, &member), SECOND);
        assert_eq!(sessions.silence(coordinator, &group, &old), SECOND * 21);
    }
}
