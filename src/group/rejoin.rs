//! JoinGroup on a classic group: new members, members that come again, static members that come back.
//!
//! Facts after apache/kafka `GroupMetadataManager.classicGroupJoinToClassicGroup` and `ClassicGroup`.
//! Known deviation: a join that replaces a waiting join of the same member answers the older one with
//! RebalanceInProgress; Kafka never answers it, which would block a connection that answers in order.

use bytes::Bytes;

use super::classic::{Classic, Turn};
use super::event::{Error, Join, Reply, State, Token};
use super::member::Member;
use super::protocols::Protocols;

impl Classic {
    pub fn join(&mut self, turn: &mut Turn<'_>, token: Token, join: Join) {
        let result = self.try_join(turn, token, join);
        if let Err(error) = result {
            turn.reply(token, Reply::Join(Err(error)));
        }
    }

    /// `Ok` when the token was answered or waits.
    fn try_join(&mut self, turn: &mut Turn<'_>, token: Token, mut join: Join) -> Result<(), Error> {
        if !self.has_room_for(&join.member_id, turn.settings.group_max_size) {
            self.remove(turn, &join.member_id);
            return Err(Error::GroupMaxSizeReached);
        }
        let protocols = Protocols::new(std::mem::take(&mut join.protocols));
        if !self.supports(&join.protocol_type, &protocols) {
            return Err(Error::InconsistentProtocol);
        }
        if join.member_id.is_empty() {
            self.join_new(turn, token, join, protocols)
        } else if self.pending.contains_key(&join.member_id) {
            if join.instance_id.is_some() {
                return Err(Error::UnknownMember);
            }
            let member_id = join.member_id.clone();
            self.add(turn, token, join, protocols, member_id);
            Ok(())
        } else {
            self.check_member(&join.member_id, join.instance_id.as_deref())?;
            self.join_again(turn, token, join, protocols);
            Ok(())
        }
    }

    fn has_room_for(&self, member_id: &str, max: usize) -> bool {
        match self.state {
            State::Empty => max > 0,
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(|m| m.awaiting_join.is_some())
                    || self.awaiting_joins() < max
            }
            _ => self.members.contains_key(member_id) || self.members.len() < max,
        }
    }

    fn join_new(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        join: Join,
        protocols: Protocols,
    ) -> Result<(), Error> {
        let member_id = join.new_member_id.clone();
        if self.members.contains_key(&member_id) || self.pending.contains_key(&member_id) {
            return Err(Error::InvalidRequest);
        }
        let known = join.instance_id.as_ref().and_then(|id| self.instances.get(id)).cloned();
        if let Some(old_id) = known {
            self.come_back(turn, token, join, protocols, &old_id);
        } else if join.instance_id.is_none() && join.requires_known_member_id {
            self.add_pending(turn, member_id.clone(), join.session_timeout_ms);
            return Err(Error::MemberIdRequired(member_id));
        } else {
            self.add(turn, token, join, protocols, member_id);
        }
        Ok(())
    }

    fn add(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        join: Join,
        protocols: Protocols,
        member_id: String,
    ) {
        self.remove_pending(turn, &member_id);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.state == State::PreparingRebalance && self.initial {
            self.new_member_added = true;
        }
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.supported.add(&protocols);
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
            expires_ms: i64::MAX,
        };
        self.members.insert(member_id.clone(), member);
        self.grant_first_join(turn, &member_id);
        self.rebalance(turn);
    }

    fn join_again(&mut self, turn: &mut Turn<'_>, token: Token, join: Join, protocols: Protocols) {
        let Some(member) = self.members.get(&join.member_id) else { return };
        let unchanged = member.protocols == protocols;
        let answer_now = match self.state {
            // The answer got lost, or the client retries: the generation is there to be had.
            State::CompletingRebalance => unchanged,
            // A leader that joins again asks for a rebalance.
            State::Stable => unchanged && !self.is_leader(&join.member_id),
            _ => false,
        };
        if answer_now {
            let joined = self.joined(&join.member_id);
            return turn.reply(token, Reply::Join(Ok(joined)));
        }
        self.update(turn, &join, protocols, &join.member_id);
        self.wait_for_join(turn, token, &join.member_id);
        self.rebalance(turn);
    }

    fn update(&mut self, turn: &mut Turn<'_>, join: &Join, protocols: Protocols, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            self.supported.add(&protocols);
            self.supported.remove(&member.protocols);
            member.protocols = protocols;
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
            member.session_timeout_ms = join.session_timeout_ms;
        }
        if !self.members.get(member_id).is_some_and(|m| m.is_new) {
            self.touch(turn, member_id);
        }
    }

    fn wait_for_join(&mut self, turn: &mut Turn<'_>, token: Token, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(older) = member.awaiting_join.replace(token) {
            turn.reply(older, Reply::Join(Err(Error::RebalanceInProgress)));
        }
    }

    /// KIP-345: a static member restarted. It takes over its old self's place under a new id.
    fn come_back(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        join: Join,
        protocols: Protocols,
        old_id: &str,
    ) {
        let old_leader = self.leader.clone();
        let member_id = join.new_member_id.clone();
        self.replace(turn, &join, old_id);
        self.update(turn, &join, protocols, &member_id);
        self.touch(turn, &member_id);
        let keeps_protocol = self.select_protocol() == self.protocol;
        match self.state {
            State::Stable if keeps_protocol => {
                let mut joined = self.joined(&member_id);
                if join.supports_skip_assignment {
                    joined.skip_assignment = self.is_leader(&member_id);
                } else {
                    // An older client that read its own id as leader would assign afresh: name the old one.
                    joined.leader = old_leader.unwrap_or_default();
                    joined.members = Vec::new();
                }
                let value = self.snapshot();
                self.write(turn, &value);
                turn.out.after.push((token, Reply::Join(Ok(joined))));
            }
            State::Stable | State::CompletingRebalance => {
                self.wait_for_join(turn, token, &member_id);
                self.prepare(turn);
            }
            _ => {
                self.wait_for_join(turn, token, &member_id);
                self.rebalance(turn);
            }
        }
    }

    /// Moves a static member to its new id; the old one is fenced wherever it waits.
    fn replace(&mut self, turn: &mut Turn<'_>, join: &Join, old_id: &str) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(older) = member.awaiting_join.take() {
            turn.reply(older, Reply::Join(Err(Error::FencedInstance)));
        }
        if let Some(older) = member.awaiting_sync.take() {
            turn.reply(older, Reply::Sync(Err(Error::FencedInstance)));
        }
        member.is_new = false;
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), join.new_member_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(join.new_member_id.clone());
        }
        self.rename_pending_sync(old_id, &join.new_member_id);
        self.members.insert(join.new_member_id.clone(), member);
    }
}
