//! One consumer group: a state machine over members, driven by requests and by the clock that it is given.
//! It knows nothing of sockets, offsets or the store; a member that waits holds the sending half of its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::limits::MAX_GROUP_MEMBERS;
use super::text;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Empty,
    /// Members are asked to join again.
    Preparing,
    /// All have joined; the leader works out who reads what.
    Completing,
    Stable,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) protocol_type: StrBytes,
    pub(super) protocol: StrBytes,
    generation: i32,
    leader: StrBytes,
    members: BTreeMap<StrBytes, Member>,
    /// When the present phase is ended without those who are late.
    deadline: Option<Instant>,
    named: u64,
}

/// What a member says of itself when it joins.
pub(super) struct Joining {
    pub(super) member_id: StrBytes,
    pub(super) instance: Option<StrBytes>,
    pub(super) client_id: StrBytes,
    pub(super) client_host: String,
    pub(super) protocol_type: StrBytes,
    pub(super) protocols: Vec<(StrBytes, Bytes)>,
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
    /// Since JoinGroup 9 a leader can be told that nothing needs to be assigned.
    pub(super) may_skip_assignment: bool,
}

struct Member {
    says: Joining,
    assignment: Bytes,
    expires: Instant,
    joining: Option<oneshot::Sender<JoinGroupResponse>>,
    syncing: Option<oneshot::Sender<SyncGroupResponse>>,
}

impl Member {
    fn metadata(&self, protocol: &StrBytes) -> Bytes {
        let found = self.says.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether it waits for others on a connection that stands: such a member is not silent.
    fn waits(&self) -> bool {
        self.joining.as_ref().is_some_and(|waiting| !waiting.is_closed())
            || self.syncing.as_ref().is_some_and(|waiting| !waiting.is_closed())
    }

    fn seen(&mut self, now: Instant) {
        self.expires = now + self.says.session;
    }
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The answer comes at once, or when all members have joined.
    pub(super) fn join(
        &mut self,
        mut joining: Joining,
        now: Instant,
    ) -> Result<oneshot::Receiver<JoinGroupResponse>, ResponseError> {
        let fits = |member: &Member| {
            joining.protocols.iter().any(|(name, _)| member.says.protocols.iter().any(|p| p.0 == *name))
        };
        if joining.protocols.is_empty()
            || (!self.is_empty() && (self.protocol_type != joining.protocol_type || !self.members.values().all(fits)))
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let replaced = self.replace_static(&mut joining)?;
        if joining.member_id.is_empty() {
            if self.members.len() >= MAX_GROUP_MEMBERS {
                return Err(ResponseError::GroupMaxSizeReached);
            }
            joining.member_id = self.name_for(&joining);
        } else if !self.members.contains_key(&joining.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.protocol_type = joining.protocol_type.clone();
        let (answer, receiver) = oneshot::channel();
        let (id, may_skip) = (joining.member_id.clone(), joining.may_skip_assignment);
        let before = self.members.remove(&id);
        let unchanged = before.as_ref().is_some_and(|member| member.says.protocols == joining.protocols);
        let assignment = before.map(|member| member.assignment).unwrap_or_default();
        let expires = now + joining.session;
        self.members.insert(id.clone(), Member { says: joining, assignment, expires, joining: None, syncing: None });
        // A follower that asks again, or a static member that came back, finds the group as it was.
        if self.phase == Phase::Stable && unchanged && (replaced.is_some() || id != self.leader) {
            let _ = answer.send(self.rejoined(&id, replaced, may_skip));
            return Ok(receiver);
        }
        // A member that asks the same again did not hear the answer to its last request.
        if self.phase == Phase::Completing && unchanged && replaced.is_none() {
            let members = if id == self.leader { self.member_list() } else { Vec::new() };
            let _ = answer.send(self.joined(&id).with_members(members));
            return Ok(receiver);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = Some(answer);
        }
        self.prepare(now);
        Ok(receiver)
    }

    /// A static member that starts again takes the place of its former self, which is fenced from then on. Answers the
    /// former leader's id, if there was a member to replace.
    fn replace_static(&mut self, joining: &mut Joining) -> Result<Option<StrBytes>, ResponseError> {
        let Some(instance) = joining.instance.clone() else { return Ok(None) };
        let former = self.members.iter().find(|(_, member)| member.says.instance.as_ref() == Some(&instance));
        let Some(former) = former.map(|(id, _)| id.clone()) else { return Ok(None) };
        if !joining.member_id.is_empty() {
            return if joining.member_id == former { Ok(None) } else { Err(ResponseError::FencedInstanceId) };
        }
        let Some(mut member) = self.members.remove(&former) else { return Ok(None) };
        // Whoever still waits under the former id hears that it was replaced.
        if let Some(waiting) = member.joining.take() {
            let _ = waiting.send(join_error(ResponseError::FencedInstanceId, &former));
        }
        if let Some(waiting) = member.syncing.take() {
            let _ = waiting.send(sync_error(ResponseError::FencedInstanceId));
        }
        joining.member_id = self.name_for(joining);
        let leader = self.leader.clone();
        if leader == former {
            self.leader = joining.member_id.clone();
        }
        self.members.insert(joining.member_id.clone(), member);
        Ok(Some(leader))
    }

    fn name_for(&mut self, joining: &Joining) -> StrBytes {
        self.named += 1;
        let of = joining.instance.as_ref().unwrap_or(&joining.client_id);
        text(format!("{}-{}-{}", of.as_str(), uuid::Uuid::new_v4().simple(), self.named))
    }

    fn rejoined(&self, id: &StrBytes, former_leader: Option<StrBytes>, may_skip: bool) -> JoinGroupResponse {
        let leads = *id == self.leader;
        let answer = self.joined(id);
        match former_leader {
            Some(_) if leads && may_skip => answer.with_members(self.member_list()).with_skip_assignment(true),
            // An older client must not take itself for the leader: its assignment would be lost in a stable group.
            Some(former) => answer.with_leader(former),
            None => answer,
        }
    }

    fn joined(&self, id: &StrBytes) -> JoinGroupResponse {
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(Some(self.protocol_type.clone()))
            .with_protocol_name(Some(self.protocol.clone()))
            .with_leader(self.leader.clone())
            .with_member_id(id.clone())
    }

    fn member_list(&self) -> Vec<JoinGroupResponseMember> {
        let members = self.members.iter().map(|(id, member)| {
            JoinGroupResponseMember::default()
                .with_member_id(id.clone())
                .with_group_instance_id(member.says.instance.clone())
                .with_metadata(member.metadata(&self.protocol))
        });
        members.collect()
    }

    fn prepare(&mut self, now: Instant) {
        if self.phase != Phase::Preparing {
            self.phase = Phase::Preparing;
            self.deadline = Some(now + self.longest_rebalance());
            for member in self.members.values_mut() {
                if let Some(waiting) = member.syncing.take() {
                    let _ = waiting.send(sync_error(ResponseError::RebalanceInProgress));
                }
            }
        }
        if self.members.values().all(|member| member.joining.is_some()) {
            self.complete(now);
        }
    }

    fn longest_rebalance(&self) -> Duration {
        self.members.values().map(|member| member.says.rebalance).max().unwrap_or_default()
    }

    fn complete(&mut self, now: Instant) {
        self.members.retain(|_, member| member.joining.is_some());
        self.generation += 1;
        let Some(first) = self.members.keys().next().cloned() else {
            (self.phase, self.deadline) = (Phase::Empty, None);
            return;
        };
        (self.phase, self.deadline) = (Phase::Completing, Some(now + self.longest_rebalance()));
        if !self.members.contains_key(&self.leader) {
            self.leader = first;
        }
        self.protocol = self.common_protocol();
        let list = self.member_list();
        let answers: Vec<_> = self.members.keys().map(|id| (id.clone(), self.joined(id))).collect();
        for (id, answer) in answers {
            let answer = if id == self.leader { answer.with_members(list.clone()) } else { answer };
            if let Some(member) = self.members.get_mut(&id) {
                member.seen(now);
                if let Some(waiting) = member.joining.take() {
                    let _ = waiting.send(answer);
                }
            }
        }
    }

    /// The first protocol in the leader's order that every member knows.
    fn common_protocol(&self) -> StrBytes {
        let leader = self.members.get(&self.leader).or(self.members.values().next());
        let choices = leader.into_iter().flat_map(|leader| leader.says.protocols.iter().map(|(name, _)| name));
        let known = |name: &&StrBytes| self.members.values().all(|m| m.says.protocols.iter().any(|p| p.0 == **name));
        choices.into_iter().find(known).cloned().unwrap_or_default()
    }

    pub(super) fn sync(
        &mut self,
        id: &StrBytes,
        assignments: Vec<(StrBytes, Bytes)>,
        now: Instant,
    ) -> Result<oneshot::Receiver<SyncGroupResponse>, ResponseError> {
        if self.phase == Phase::Preparing {
            return Err(ResponseError::RebalanceInProgress);
        }
        let (answer, receiver) = oneshot::channel();
        let leads = *id == self.leader;
        let member = self.members.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        member.seen(now);
        member.syncing = Some(answer);
        if self.phase == Phase::Completing && leads {
            let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
            for (id, member) in &mut self.members {
                member.assignment = assignments.remove(id).unwrap_or_default();
            }
            (self.phase, self.deadline) = (Phase::Stable, None);
        }
        if self.phase == Phase::Stable {
            for member in self.members.values_mut() {
                if let Some(waiting) = member.syncing.take() {
                    member.seen(now);
                    let answer = SyncGroupResponse::default()
                        .with_protocol_type(Some(self.protocol_type.clone()))
                        .with_protocol_name(Some(self.protocol.clone()))
                        .with_assignment(member.assignment.clone());
                    let _ = waiting.send(answer);
                }
            }
        }
        Ok(receiver)
    }

    /// Whether this is a member of the present generation, under the id it was given last.
    pub(super) fn check(
        &self,
        id: &StrBytes,
        instance: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let holder = instance.and_then(|instance| self.holder(instance));
        if holder.is_some_and(|holder| holder != id) {
            return Err(ResponseError::FencedInstanceId);
        }
        if !self.members.contains_key(id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if generation != self.generation { Err(ResponseError::IllegalGeneration) } else { Ok(()) }
    }

    fn holder(&self, instance: &StrBytes) -> Option<&StrBytes> {
        self.members.iter().find(|(_, member)| member.says.instance.as_ref() == Some(instance)).map(|(id, _)| id)
    }

    pub(super) fn heartbeat(&mut self, id: &StrBytes, now: Instant) -> Result<(), ResponseError> {
        if let Some(member) = self.members.get_mut(id) {
            member.seen(now);
        }
        if self.phase == Phase::Preparing { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    pub(super) fn leave(
        &mut self,
        id: &StrBytes,
        instance: Option<&StrBytes>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        let id = match instance {
            Some(instance) if id.is_empty() => self.holder(instance).cloned(),
            _ => Some(id.clone()),
        };
        match id.and_then(|id| self.members.remove(&id)) {
            Some(_) => {
                self.prepare(now);
                Ok(())
            }
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let before = self.members.len();
        self.members.retain(|_, member| member.waits() || now < member.expires);
        if self.members.len() < before {
            self.prepare(now);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            match self.phase {
                Phase::Preparing => self.complete(now),
                Phase::Completing => {
                    self.members.retain(|_, member| member.syncing.is_some());
                    self.prepare(now);
                }
                Phase::Empty | Phase::Stable => self.deadline = None,
            }
        }
    }

    pub(super) fn described(&self) -> Vec<DescribedGroupMember> {
        let members = self.members.iter().map(|(id, member)| {
            DescribedGroupMember::default()
                .with_member_id(id.clone())
                .with_group_instance_id(member.says.instance.clone())
                .with_client_id(member.says.client_id.clone())
                .with_client_host(text(member.says.client_host.clone()))
                .with_member_metadata(member.metadata(&self.protocol))
                .with_member_assignment(member.assignment.clone())
        });
        members.collect()
    }
}

pub(super) fn join_error(error: ResponseError, id: &StrBytes) -> JoinGroupResponse {
    JoinGroupResponse::default().with_error_code(error.code()).with_member_id(id.clone())
}

pub(super) fn sync_error(error: ResponseError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
